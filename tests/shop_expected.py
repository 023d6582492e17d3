"""What the policies of the shop say of each request of shop.pcap, decided by hand; in the order of the capture."""

from typing import NamedTuple

CHARGE_ONLY = "payment-gateway-charge-only"
READ_ONLY = "api-server-read-only"
NOBODY = ""  # no rule names the source: the default of a selected endpoint


class Expected(NamedTuple):
    """A request and its verdict; `policy` allowed it, or holds the HTTP rules that refused it."""

    source: str  # pod without the suffixes of its controller
    destination: str
    method: str
    url: str
    verdict: str
    policy: str


PAYMENT, API = "http://payment-gateway:8080", "http://api-server:8080"
ORDERS, FRONTEND, STRANGER, WORLD = "shop/order-service", "shop/frontend", "visitors/stranger", "world-ipv4"
GATEWAY, SERVER = "shop/payment-gateway", "shop/api-server"

SHOP = [
    Expected(FRONTEND, SERVER, "GET", f"{API}/api/v2/products", "FORWARDED", READ_ONLY),
    Expected(FRONTEND, SERVER, "GET", f"{API}/api/v2/products/7", "FORWARDED", READ_ONLY),
    Expected(FRONTEND, SERVER, "GET", f"{API}/api/v2/products?page=2", "FORWARDED", READ_ONLY),
    Expected(ORDERS, GATEWAY, "POST", f"{PAYMENT}/v1/charge", "FORWARDED", CHARGE_ONLY),
    Expected(FRONTEND, SERVER, "GET", f"{API}/api/v2/products/999", "FORWARDED", READ_ONLY),  # its 404 is no refusal
    Expected(ORDERS, GATEWAY, "GET", f"{PAYMENT}/v1/charge", "DROPPED", CHARGE_ONLY),
    Expected(ORDERS, GATEWAY, "POST", f"{PAYMENT}/v1/refund", "DROPPED", CHARGE_ONLY),
    Expected(ORDERS, GATEWAY, "POST", f"{PAYMENT}/v1/charge?dry_run=1", "DROPPED", CHARGE_ONLY),
    Expected(ORDERS, GATEWAY, "POST", f"{PAYMENT}/v1/charge", "FORWARDED", CHARGE_ONLY),
    Expected(ORDERS, GATEWAY, "GET", f"{PAYMENT}/v1/charge", "DROPPED", CHARGE_ONLY),
    Expected(ORDERS, GATEWAY, "POST", f"{PAYMENT}/v1/charge", "FORWARDED", CHARGE_ONLY),
    Expected(ORDERS, GATEWAY, "DELETE", f"{PAYMENT}/v1/charge/41", "DROPPED", CHARGE_ONLY),
    Expected(FRONTEND, SERVER, "GET", f"{API}/api/v1/products", "DROPPED", READ_ONLY),
    Expected(FRONTEND, SERVER, "POST", f"{API}/api/v2/products", "DROPPED", READ_ONLY),
    Expected(FRONTEND, SERVER, "HEAD", f"{API}/api/v2/products", "DROPPED", READ_ONLY),
    Expected(FRONTEND, SERVER, "GET", f"{API}/admin", "DROPPED", READ_ONLY),
    Expected(FRONTEND, GATEWAY, "POST", f"{PAYMENT}/v1/charge", "DROPPED", NOBODY),
    Expected(ORDERS, SERVER, "GET", f"{API}/api/v2/products", "DROPPED", NOBODY),
    Expected(STRANGER, GATEWAY, "POST", "http://payment-gateway.shop:8080/v1/charge", "DROPPED", NOBODY),
    Expected(STRANGER, SERVER, "GET", "http://api-server.shop:8080/api/v2/products", "DROPPED", NOBODY),
    Expected(WORLD, SERVER, "GET", "http://10.244.2.21:8080/api/v2/products", "DROPPED", NOBODY),
    Expected(FRONTEND, SERVER, "GET", f"{API}/api/v2/orders/1042", "FORWARDED", READ_ONLY),
    Expected(ORDERS, GATEWAY, "POST", f"{PAYMENT}/v1/charge", "FORWARDED", CHARGE_ONLY),
]
