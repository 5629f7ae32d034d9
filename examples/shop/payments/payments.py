"""The bank's end of card payments: HTTPS, outside the mesh, knows nothing of it. Python's standard library only.

With --callback it tells the shop, at its public address, when a payment is settled.
"""

import argparse
import http.client
import itertools
import json
import socket
import ssl
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_MAX_BYTES = 16 * 1024
numbers = itertools.count(1)


class Payments(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    options: argparse.Namespace

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/charge" or not 0 < length <= BODY_MAX_BYTES:
            return self.answer(404, {"error": "POST /charge is all there is"})
        charge = json.loads(self.rfile.read(length))
        receipt = f"pay-{next(numbers):06}"
        print(f"charged {charge['amount_cents']} for {charge['reference']!r}: {receipt}, asked by {self.client_address[0]}", flush=True)
        if self.options.callback:
            threading.Thread(target=settled, args=(self.options, receipt), daemon=True).start()
        return self.answer(200, {"receipt": receipt})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def settled(options, receipt):
    """The shop may not have written the order down yet, so it is told more than once."""
    target = urllib.parse.urlsplit(options.callback)
    for pause in (0.5, 1, 2, 4):
        time.sleep(pause)
        try:
            trust = ssl.create_default_context(cafile=options.callback_ca)
            connection = http.client.HTTPSConnection(target.hostname, target.port or 443, timeout=30, context=trust)
            plain = socket.create_connection((options.callback_address or target.hostname, target.port or 443), timeout=30)
            connection.sock = trust.wrap_socket(plain, server_hostname=target.hostname)
            connection.request("POST", target.path, json.dumps({"receipt": receipt}), {"Content-Type": "application/json"})
            status = connection.getresponse().status
            connection.close()
        except OSError as problem:
            status = problem
        print(f"told {options.callback} of {receipt}: {status}", flush=True)
        if status == 200:
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="203.0.113.10:443")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--callback", help="https address that is told of settled payments")
    parser.add_argument("--callback-ca", help="whom to believe there")
    parser.add_argument("--callback-address", help="where it is, when no name server knows")
    args = parser.parse_args()
    Payments.options = args
    host, port = args.listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Payments)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.certificate, args.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"listening on {args.listen}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
