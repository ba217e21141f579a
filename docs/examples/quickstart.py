from flask import Flask, redirect, url_for
from flask_login import LoginManager, UserMixin, login_required, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from flask_smsverify import SMSVerify, require_verified_mobile

db = SQLAlchemy()
login_manager = LoginManager()
smsverify = SMSVerify()


class User(UserMixin, db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    mobile: Mapped[str | None] = mapped_column(String(16))


@login_manager.user_loader
def load_user(user_id):
    return db.session.get(User, int(user_id))


def create_app(config=None):
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "change-me"
    app.config["SMSVERIFY_SITE_NAME"] = "Chenar"  # in texts and on pages
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///quickstart.sqlite"
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})

    db.init_app(app)
    login_manager.init_app(app)
    smsverify.init_app(app, db, user_model=User)

    with app.app_context():
        db.create_all()  # includes the tables of flask_smsverify

    @app.get("/")
    def log_in():
        """Create a user and log in. A real app has a login form here."""
        user = User()
        db.session.add(user)
        db.session.commit()
        login_user(user)
        return redirect(url_for("new_order"))

    @app.get("/orders/new")
    @login_required
    @require_verified_mobile
    def new_order():
        return "Your mobile number is confirmed. You can order."

    return app
