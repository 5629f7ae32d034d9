// A provider nobody here wrote: npm oidc-provider, with its own sign-in and sign-out pages. People and their groups are read from a file for every
// answer, and what it knows is kept in another, so that it may go away and come back. Arguments: the directory of both, a port, where weft's back channel is.
import fs from 'node:fs';
import crypto from 'node:crypto';

const { Provider } = await import(`${process.env.WEFT_NODE}/node_modules/oidc-provider/lib/index.js`);
const [dir, port, backchannel] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const kept = `${dir}/kept.json`;
const known = new Map(fs.existsSync(kept) ? JSON.parse(fs.readFileSync(kept, 'utf8')) : []);
const keep = () => fs.writeFileSync(kept, JSON.stringify([...known]));
class Adapter {
  constructor(name) { this.name = name; }
  key(id) { return `${this.name}:${id}`; }
  async upsert(id, payload) { known.set(this.key(id), payload); keep(); }
  async find(id) { return known.get(this.key(id)); }
  async findBy(field, value) { return [...known].find(([key, payload]) => key.startsWith(`${this.name}:`) && payload[field] === value)?.[1]; }
  async findByUid(uid) { return this.findBy('uid', uid); }
  async findByUserCode(code) { return this.findBy('userCode', code); }
  async consume(id) { known.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); keep(); }
  async destroy(id) { known.delete(this.key(id)); keep(); }
  async revokeByGrantId(grant) { for (const [key, payload] of known) if (payload.grantId === grant) known.delete(key); keep(); }
}

const keys = `${dir}/keys.json`;
if (!fs.existsSync(keys)) {
  const key = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
  fs.writeFileSync(keys, JSON.stringify({ keys: [{ ...key, use: 'sig', alg: 'ES256' }] }), { mode: 0o600 });
}

const client = (id, host) => ({
  client_id: id, client_secret: 'a client secret', id_token_signed_response_alg: 'ES256',
  grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
  redirect_uris: [`https://${host}:8443/.weft/callback`], post_logout_redirect_uris: [`https://${host}:8443/.weft/signed-out`],
});

const provider = new Provider(issuer, {
  adapter: Adapter,
  jwks: JSON.parse(fs.readFileSync(keys, 'utf8')),
  cookies: { keys: ['a key of the test'] },
  clients: [{ ...client('weft', 'portal.localhost'), backchannel_logout_uri: backchannel, backchannel_logout_session_required: true }, client('wiki', 'wiki.localhost')],
  scopes: ['openid', 'offline_access', 'profile', 'email', 'roles'],
  // Groups where Keycloak has them: inside of other claims.
  claims: { openid: ['sub'], profile: ['preferred_username', 'name'], email: ['email', 'email_verified'], roles: ['realm_access', 'resource_access'] },
  findAccount: async (_, id) => ({
    accountId: id,
    claims: async () => {
      const person = JSON.parse(fs.readFileSync(`${dir}/people.json`, 'utf8'))[id];
      const [realm, ...own] = person.groups;
      return {
        sub: id, preferred_username: id, name: person.name, email: `${id}@corp.example`, email_verified: true,
        realm_access: { roles: realm ? [realm] : [] }, resource_access: { weft: { roles: own } },
      };
    },
  }),
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  ttl: { AccessToken: 7200, IdToken: 7200, RefreshToken: 86400, Session: 86400, Grant: 86400, Interaction: 600, AuthorizationCode: 60 },
  features: { devInteractions: { enabled: true }, backchannelLogout: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope('openid profile email roles offline_access');
    await grant.save();
    return grant;
  },
  // Its own would not go to a loopback address.
  fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined }),
});
for (const event of ['server_error', 'grant.error', 'authorization.error', 'backchannel.error', 'end_session.error']) {
  provider.on(event, (_, error) => console.error(event, error.message, error.error_description ?? ''));
}
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
