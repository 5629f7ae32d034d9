"""The bank's end of card payments: HTTPS, outside the mesh, knows nothing of it. Python's standard library only."""

import argparse
import itertools
import json
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_MAX_BYTES = 16 * 1024
numbers = itertools.count(1)


class Payments(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/charge" or not 0 < length <= BODY_MAX_BYTES:
            return self.answer(404, {"error": "POST /charge is all there is"})
        charge = json.loads(self.rfile.read(length))
        receipt = f"pay-{next(numbers):06}"
        print(f"charged {charge['amount_cents']} for {charge['reference']!r}: {receipt}, asked by {self.client_address[0]}", flush=True)
        return self.answer(200, {"receipt": receipt})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="203.0.113.10:443")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    args = parser.parse_args()
    host, port = args.listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Payments)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.certificate, args.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"listening on {args.listen}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
