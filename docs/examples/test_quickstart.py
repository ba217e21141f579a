from datetime import timedelta

import pytest
from app import User, create_app, db, smsverify

from flask_smsverify.testing import outbox


@pytest.fixture
def app(tmp_path):
    app = create_app(
        {
            "TESTING": True,
            "WTF_CSRF_ENABLED": False,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'test.sqlite'}",
        }
    )
    yield app
    with app.app_context():
        smsverify.close()
        db.engine.dispose()


@pytest.fixture
def client(app):
    client = app.test_client()
    client.get("/")  # logs in
    return client


def test_an_order_requires_a_verified_mobile(app, client):
    refused = client.get("/orders/new")
    assert refused.location == "/verify-mobile/?next=/orders/new"

    with outbox(app) as box:
        client.post("/verify-mobile/mobile", data={"mobile": "0912 345 6789", "send": "1"})
        client.post("/verify-mobile/check", data={"code": box.last.code})
        assert client.get("/orders/new").status_code == 200

        box.advance(timedelta(days=91))
        assert client.get("/orders/new").status_code == 302


def test_a_vouched_mobile_can_order(app, client):
    with app.app_context():
        user = db.session.scalars(db.select(User)).one()
        user.mobile = "+989123456789"
        db.session.commit()
        smsverify.verifier.mark_verified(user, by="the tests")
    assert client.get("/orders/new").status_code == 200
