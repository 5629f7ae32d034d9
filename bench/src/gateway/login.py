"""Signs in as a browser would, and prints the cookie that an application's host got: login.py CA URL USER, the password on standard input."""
import html, http.cookiejar, re, ssl, sys, urllib.parse, urllib.request

ca, url, user = sys.argv[1:]
jar = http.cookiejar.CookieJar()
web = urllib.request.build_opener(
    urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)), urllib.request.HTTPCookieProcessor(jar)
)
web.addheaders = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "same-origin")]
login = web.open(url)
page = login.read().decode()
fields = {name: html.unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)}
fields.update(username=user, password=sys.stdin.readline().strip())
at = urllib.parse.urlsplit(login.url)
form = urllib.request.Request(urllib.parse.urljoin(login.url, "/login"), urllib.parse.urlencode(fields).encode(), {"Origin": f"{at.scheme}://{at.netloc}"})
end = web.open(form)
if end.url != url:
    sys.exit(f"ended at {end.url}")
host = urllib.parse.urlsplit(url).hostname
print(next(f"{c.name}={c.value}" for c in jar if c.domain == host and c.name == "__Host-weft"))
