"""Orders: reserves in stock, charges the card, writes the row. Python's standard library and psycopg2.

Knows names and ports, nothing of a mesh: no certificate, no password, no sidecar.
"""

import argparse
import html
import http.client
import json
import socket
import ssl
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2

BODY_MAX_BYTES = 16 * 1024
# Long enough to sit out the restart of anything on the way.
PATIENCE_SECONDS = 60


class Refused(Exception):
    """Somebody on the way said no; the reason is for the customer."""


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_SECONDS
    options: argparse.Namespace

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200, {"ok": True})
        if self.path == "/":
            return self.book()
        return self.answer(404, {"error": "GET / shows the orders, POST /orders takes one"})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if self.path not in ("/orders", "/payments/settled") or not 0 < length <= BODY_MAX_BYTES:
            return self.answer(404, {"error": "POST /orders takes an order"})
        if self.path == "/payments/settled":
            return self.settle()
        try:
            order = json.loads(self.rfile.read(length))
            placed = self.place(str(order["sku"]), int(order["quantity"]), str(order["customer"]))
        except Refused as refused:
            return self.answer(409, {"error": str(refused)})
        except (KeyError, ValueError, TypeError) as problem:
            return self.answer(400, {"error": f"not an order: {problem}"})
        except (OSError, http.client.HTTPException, psycopg2.Error) as problem:
            return self.answer(502, {"error": f"{type(problem).__name__}: {problem}".strip()})
        return self.answer(200, placed)

    def book(self):
        """The order book, for whoever the catalog lets look at it."""
        with closing(psycopg2.connect(self.options.database, connect_timeout=PATIENCE_SECONDS)) as database, database.cursor() as cursor:
            cursor.execute("SELECT id, quantity, sku, customer, payment, settled FROM orders ORDER BY id DESC LIMIT 50")
            rows = cursor.fetchall()
        cells = lambda row: "".join(f"<td>{html.escape(str(cell))}" for cell in row[:5]) + f"<td>{'settled' if row[5] else 'open'}"
        page = (
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Orders</title>"
            "<style>body{font:16px/1.5 system-ui;max-width:46em;margin:2em auto}td,th{padding:.1em 1em;text-align:left}</style>"
            "<h1>Orders</h1><table><tr><th>No.<th>Quantity<th>Product<th>Customer<th>Payment<th>State"
            + "".join(f"<tr>{cells(row)}" for row in rows) + "</table>"
        )
        return self.send(200, "text/html; charset=utf-8", page.encode())

    def settle(self):
        """The bank says that a payment has arrived. It proves nothing but its receipt, which only it and we know."""
        try:
            receipt = str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["receipt"])
        except (KeyError, ValueError, TypeError) as problem:
            return self.answer(400, {"error": f"not a receipt: {problem}"})
        with closing(psycopg2.connect(self.options.database, connect_timeout=PATIENCE_SECONDS)) as database, database, database.cursor() as cursor:
            cursor.execute("UPDATE orders SET settled = true WHERE payment = %s", (receipt,))
            known = cursor.rowcount
        return self.answer(200 if known else 404, {"settled": known})

    def place(self, sku, quantity, customer):
        if not (sku.isalnum() and 0 < quantity <= 100 and len(customer) <= 200 and customer.isprintable()):
            raise Refused("a product, 1 to 100 of it, and a name, please")
        with closing(psycopg2.connect(self.options.database, connect_timeout=PATIENCE_SECONDS)) as database, database, database.cursor() as cursor:
            cursor.execute("SELECT price_cents FROM products WHERE sku = %s", (sku,))
            row = cursor.fetchone()
            if row is None:
                raise Refused(f"no product {sku}")
            stock = reserve(self.options.stock, sku, quantity, customer)
            price = row[0] * quantity
            receipt = self.charge(price, customer)
            cursor.execute(
                "INSERT INTO orders (sku, quantity, customer, price_cents, payment, served_by) VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
                (sku, quantity, customer, price, receipt, self.options.name),
            )
            number = cursor.fetchone()[0]
        print(f"order {number}: {quantity} {sku} for {customer!r}, asked by {self.caller()}", flush=True)
        return {
            "order": number, "sku": sku, "quantity": quantity, "price_cents": price, "payment": receipt,
            "served_by": self.options.name, "asked_by": self.caller(), "stock_says": stock,
        }

    def charge(self, cents, reference):
        trust = ssl.create_default_context(cafile=self.options.payments_ca)
        bank = http.client.HTTPSConnection(*address(self.options.payments), timeout=PATIENCE_SECONDS, context=trust)
        with closing(bank):
            bank.request("POST", "/charge", json.dumps({"amount_cents": cents, "reference": reference}))
            answer = bank.getresponse()
            body = json.loads(answer.read(BODY_MAX_BYTES))
        if answer.status != 200:
            raise Refused(f"the bank said {answer.status}")
        return body["receipt"]

    def caller(self):
        return self.client_address[0].removeprefix("::ffff:")

    def answer(self, status, body):
        return self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status, kind, data):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """One line an order is enough."""


def reserve(stock, sku, quantity, reference):
    """Stock speaks first: a greeting that says whom it sees, then one line for a line."""
    with closing(socket.create_connection(address(stock), timeout=PATIENCE_SECONDS)) as connection, connection.makefile("rw", newline="\r\n") as lines:
        greeting = lines.readline().strip()
        if not greeting.startswith("220 "):
            raise Refused(f"stock greets with {greeting!r}")
        lines.write(f"RESERVE {sku} {quantity} {reference}\r\nQUIT\r\n")
        lines.flush()
        said = lines.readline().strip()
        if not said.startswith("250 "):
            raise Refused(said.partition(" ")[2] or "stock hung up")
        return f"{greeting[4:]}; {said[4:]}"


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of this replica, for the receipt")
    parser.add_argument("--listen", default="8080", type=int)
    parser.add_argument("--database", default="host=orders-db.shop.weft.internal user=orders dbname=shop")
    parser.add_argument("--stock", default="stock.shop.weft.internal:2525")
    parser.add_argument("--payments", default="203.0.113.10:443")
    parser.add_argument("--payments-ca", required=True)
    Orders.options = parser.parse_args()

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6
        request_queue_size = 128

        def server_bind(self):
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    server = Server(("::", Orders.options.listen), Orders)
    print(f"listening on {Orders.options.listen}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
