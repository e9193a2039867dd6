"""
Sends one webhook as WhatsApp would, sharing no code with the gateway: the standard library alone.

``python -I -S send_webhook.py PORT TENANT SECRET_FILE PHONE_NUMBER_ID FROM MESSAGE``: MESSAGE is
the JSON of a message's content; prints the status of the answer.
"""

import hashlib
import hmac
import http.client
import json
import os
import sys
import time
from pathlib import Path

port, tenant, secret_file, number, sender, content = sys.argv[1:]
message = {"from": sender, "id": f"wamid.{os.urandom(12).hex()}"}
message |= {"timestamp": str(int(time.time()))} | json.loads(content)
value = {
    "messaging_product": "whatsapp",
    "metadata": {"display_phone_number": "15550783881", "phone_number_id": number},
    "contacts": [{"profile": {"name": "A Foreigner"}, "wa_id": sender}],
    "messages": [message],
}
delivery = {
    "object": "whatsapp_business_account",
    "entry": [{"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}],
}
body = json.dumps(delivery, ensure_ascii=True).replace("/", "\\/").encode()
digest = hmac.new(Path(secret_file).read_bytes(), body, hashlib.sha256).hexdigest()
headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={digest}"}
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
connection.request("POST", f"/webhooks/whatsapp/{tenant}", body, headers)
print(connection.getresponse().status)  # noqa: T201 - a program's own output
