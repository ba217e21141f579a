"""One send to each simulated gateway."""

from __future__ import annotations

import httpx

SOAP = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
    '<SendSms xmlns="http://tempuri.org/"><username>u</username><password>p</password>'
    "<to><string>09123456789</string></to><from>50004001</from><text>salam</text>"
    "<isflash>false</isflash></SendSms></s:Body></s:Envelope>"
)


def raygan(http: httpx.Client) -> httpx.Response:
    body = {"Mobile": "09123456789", "Message": "salam"}
    return http.post("/raygan/api/smsAPI/SendCode", json=body, auth=("u", "p"))


def wikipayam(http: httpx.Client) -> httpx.Response:
    row = {"sender": "10002000", "receiver": "09123456789", "message": "salam"}
    headers = {"Authorization": "Bearer t"}
    return http.post("/wikipayam/api/v1/sms/send", json=[row], headers=headers)


def melipayamak(http: httpx.Client) -> httpx.Response:
    headers = {"Content-Type": "text/xml", "SOAPAction": "http://tempuri.org/SendSms"}
    return http.post("/melipayamak/post/Send.asmx", content=SOAP, headers=headers)


ASANAK = {
    "username": "u", "password": "p", "source": "982100", "destination": "09123456789",
    "message": "salam",
}  # fmt: skip


def asanak(http: httpx.Client) -> httpx.Response:
    return http.post("/asanak/webservice/v1rest/sendsms", data=ASANAK)


def asanak_v2(http: httpx.Client) -> httpx.Response:
    return http.post("/asanak/webservice/v2rest/sendsms", json=ASANAK)


def smsir(http: httpx.Client) -> httpx.Response:
    body = {"lineNumber": 3000, "messageText": "salam", "mobiles": ["09123456789"]}
    return http.post("/smsir/v1/send/bulk", json=body, headers={"X-API-KEY": "k"})


def smsir_legacy(http: httpx.Client) -> httpx.Response:
    keys = {"UserApiKey": "k", "SecretKey": "s"}
    token = http.post("/smsir/api/Token", json=keys).json()["TokenKey"]
    body = {"Code": "1234", "MobileNumber": "09123456789"}
    headers = {"x-sms-ir-secure-token": token or ""}
    return http.post("/smsir/api/VerificationCode", json=body, headers=headers)
