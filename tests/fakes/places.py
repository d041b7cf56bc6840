"""Places that the egress client must not connect to, in every spelling that has fooled somebody."""

from __future__ import annotations


def read(text: str) -> list[str]:
    """Return the words of a block."""
    return text.split()


PRIVATE_V4 = read("""
0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0 100.64.0.1
100.100.100.200 100.127.255.255 127.0.0.0 127.0.0.1 127.0.1.1 127.255.255.255 169.254.0.0
169.254.169.254 169.254.170.2 169.254.255.255 172.16.0.0 172.17.0.1 172.31.255.255 192.0.0.0
192.0.0.8 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.1 192.88.99.255
192.168.0.0 192.168.1.1 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255
203.0.113.0 203.0.113.255 224.0.0.0 224.0.0.1 239.255.255.255 240.0.0.0 255.255.255.254
255.255.255.255
""")

PRIVATE_V6 = read("""
:: ::1 ::2 ::7f00:1 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1
::ffff:169.254.169.254 ::ffff:0.0.0.0 ::ffff:192.168.0.1 ::ffff:224.0.0.1 ::ffff:100.64.0.1
::ffff:0:127.0.0.1 ::fffe:1.2.3.4 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1
64:ff9b::192.168.0.1 64:ff9b::0.0.0.0 64:ff9b:1:: 64:ff9b:1::a9fe:a9fe
64:ff9b:1:ffff:ffff:ffff:ffff:ffff 100:: 100::1 100::ffff:ffff:ffff:ffff 100:0:0:1::1 2001::
2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:3::1 2001:10::1 2001:20::1
2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: 2001:db8::1
2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2002:: 2002:7f00:1:: 2002:a9fe:a9fe:: 2002:a00:1::1
2002:808:808::1 3fff:: 3fff::1 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff 5f00:: 5f00::1
5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff fc00:: fc00::1 fd00:ec2::254
fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe80:: fe80::1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff
fec0:: fec0::1 feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ff00:: ff02::1 ff0e::1
ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 0:0:0:0:0:0:0:1 0000:0000:0000:0000:0000:0000:0000:0001
4000::1 8000::1 e000::1 200::1
""")

ODD_HOSTS = [
    *("127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0x7F.0.0.1"),
    *("0177.0.0.1", "0177.1", "127.0.0.01", "127.00.0.1", "127.0.0.0x1", "0", "0x0", "00", "0x"),
    *("127.0.0.1.", "127.1.", "localhost.", "0.0", "4294967295", "4294967296", "256.0.0.1"),
    *("10.1", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518"),
    *(
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
        "127\u30020\u30020\u30021",
        "127\uff0e0\uff0e0\uff0e1",
        "\uff11\uff12\uff17.0.0.1",
        "\u0661\u0662\u0667.0.0.1",
        "\u217cocalhost",
    ),
    *("loca\u217chost", "localhost\u200b", "\u017fervice.local", "127.0.0.1\u0000"),
    *("[::1]", "[::1", "::1]", "[127.0.0.1]", "[localhost]", "[::1%25lo]", "::1%lo", "fe80::1%1"),
    *("fe80::1%25eth0", "::1%0", ":::1", "1::2::3", "::127.0.0.256", "::0177.0.0.1", "::g"),
    *("a@127.0.0.1", "127.0.0.1@a", "api.openai.com@127.0.0.1", "user:pass@127.0.0.1"),
    *("127.0.0.1\\@api.openai.com", "api.openai.com\\.127.0.0.1", "127.0.0.1/", "127.0.0.1?"),
    *("127.0.0.1#", "127.0.0.1%00", "127.0.0.1%2f", "%31%32%37.0.0.1", "127%2e0%2e0%2e1"),
    *("", ".", "..", ".localhost", "localhost..", "local..host", "-localhost", "localhost-"),
    *("127.0.0.1\r\nhost: a", "127.0.0.1\t", "127.0.0.1 ", " 127.0.0.1", "127.0.0.1,a", "a;b"),
    *("local\u00adhost", "*", "a*b", "a" * 64 + ".example", ".".join(["a" * 60] * 5)),
]

ODD_URLS = [
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:{port}/_GET",
    "ftp://127.0.0.1:{port}/",
    "dict://127.0.0.1:{port}/info",
    "ldap://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "data:text/plain,x",
    "javascript:alert(1)",
    "ws://127.0.0.1:{port}/",
    "http+unix://%2fvar%2frun%2fdocker.sock/v1",
    "https:127.0.0.1:{port}",
    "https:/127.0.0.1:{port}/v1",
    "https:///127.0.0.1:{port}/v1",
    "//127.0.0.1:{port}/v1",
    "127.0.0.1:{port}",
    "https://",
    "https://:{port}/v1",
    "https://127.0.0.1:/v1",
    "https://127.0.0.1:{port}@api.openai.com/v1",
    "https://api.openai.com:443@127.0.0.1:{port}/v1",
    "https://api.openai.com@127.0.0.1:{port}/v1",
    "https://api.openai.com\\@127.0.0.1:{port}/v1",
    "https://127.0.0.1:{port}\\@api.openai.com/v1",
    "https://api.openai.com#@127.0.0.1:{port}/v1",
    "https://api.openai.com?@127.0.0.1:{port}/v1",
    "https://127.0.0.1:{port}#@api.openai.com/v1",
    "https://[::1]:{port}/v1",
    "https://[::ffff:127.0.0.1]:{port}/v1",
    "https://[::1%25lo]:{port}/v1",
    "https://[fe80::1%eth0]:{port}/v1",
    "https://[::1].example:{port}/v1",
    "https://[v1.fe80]:{port}/v1",
    "https://127.0.0.1:{port}/v1\r\nx: y",
    "https://127.0.0.1:{port}/v1/../..",
    "https://127.0.0.1:{port}/%2e%2e/",
    "https://127.0.0.1 :{port}/v1",
    " https://127.0.0.1:{port}/v1",
    "https://127.0.0.1:{port}/v1 ",
    "HTTPS://127.0.0.1:{port}/v1",
    "https://LOCALHOST:{port}/v1",
    "https://127.0.0.1:0/v1",
    "https://127.0.0.1:65536/v1",
    "https://127.0.0.1:-1/v1",
    "https://127.0.0.1:{port}0000/v1",
    "https://127.0.0.1:+{port}/v1",
    "https://127.0.0.1:\u0668\u0660/v1",
    "https://api.openai.com:0/v1",
    "https://api.openai.com:22/v1",
    "https://api.openai.com:25/v1",
    "https://api.openai.com:6379/v1",
    "https://api.openai.com:5432/v1",
    "https://api.openai.com:11211/v1",
    "https://8.8.8.8:53/v1",
    "http://api.openai.com/v1",
    "http://8.8.8.8/v1",
    "http://127.0.0.1:{port}/v1",
    "http://localhost:{port}/v1",
]

NAMES: dict[str, list[str]] = {
    "localhost": ["127.0.0.1", "::1"],
    "private.test": ["10.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "public-first.test": ["8.8.8.8", "127.0.0.1"],
    "private-first.test": ["127.0.0.1", "8.8.8.8"],
    "one-of-many.test": [*(f"8.8.8.{n}" for n in range(200)), "127.0.0.1"],
    "six-only.test": ["::1"],
    "six-and-four.test": ["2606:4700::1", "192.168.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "translated.test": ["64:ff9b::7f00:1"],
    "zoned.test": ["fe80::1%lo"],
    "alias.of.alias.test": ["172.17.0.1"],
    "multicast.test": ["224.0.0.1"],
    "nonsense.test": ["0177.0.0.1"],
    "127.0.0.1.nip.test": ["127.0.0.1"],
}
"""What a name server says of names that look good."""

PUBLIC = read("""
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 104.18.7.192 126.255.255.255
128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.255
192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0
203.0.112.255 203.0.114.0 223.255.255.255 2606:4700::6812:7c0 2001:4860:4860::8888 2001:200::
2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9:: 2003:: 2a00:1450:4001:81b::200e 3ffe:ffff::
3fff:1000:: ::ffff:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b::808:808
""")
