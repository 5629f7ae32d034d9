// A small application: says who asks and what arrived, sends a stream of events, and echoes a WebSocket. It signs nobody in: it is told.
// Arguments: its title, a port.
import http from 'node:http';

const { WebSocketServer } = await import(`${process.env.WEFT_NODE}/node_modules/ws/wrapper.mjs`);
const [title, port] = process.argv.slice(2);

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
// What the gateway vouches for is between it and us; whether the signature is checked is for other tests.
const claims = (request) => {
  const token = request.headers['weft-assertion'];
  return token ? JSON.parse(Buffer.from(token.split('.')[1], 'base64url')) : {};
};

const page = (request) => `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escape(title)}</title></head>
<body><main><h1>${escape(title)}</h1><p>You are <b id="who">${escape(claims(request).user ?? 'nobody')}</b> at <code id="at">${escape(request.url)}</code>,
with cookies <code id="cookies">${escape(request.headers.cookie ?? 'none')}</code>.</p>
<p>Events: <b id="ticks">0</b>, <span id="stream">opening</span>. Socket: <span id="socket">opening</span>.</p></main>
<script>
const say = (id, text) => { document.getElementById(id).textContent = text; };
const events = new EventSource('/live');
events.onmessage = (event) => { say('ticks', event.data); say('stream', 'open'); };
events.onerror = () => { say('stream', 'ended'); events.close(); };
const socket = new WebSocket('wss://' + location.host + '/socket');
socket.onopen = () => socket.send('hello');
socket.onmessage = (event) => say('socket', 'open: ' + event.data);
socket.onclose = (event) => say('socket', 'closed ' + event.code);
</script></body></html>`;

const server = http.createServer((request, response) => {
  if (request.url === '/live') {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    let count = 0;
    const timer = setInterval(() => response.write(`data: ${(count += 1)}\n\n`), 100);
    response.on('close', () => clearInterval(timer));
    return;
  }
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  response.end(page(request));
});
const sockets = new WebSocketServer({ server, maxPayload: 64 << 20, perMessageDeflate: true });
sockets.on('connection', (socket) => {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
  socket.on('error', () => {});
});
server.listen(Number(port), '0.0.0.0', () => console.log('listening'));
