import time
import uuid

from flask import Flask, session
from flask_security import Security, SQLAlchemyUserDatastore, auth_required, roles_required
from flask_security.models import fsqla_v3
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from flask_smsverify import SMSVerify
from flask_smsverify.signals import signed_in

db = SQLAlchemy()
fsqla_v3.FsModels.set_db_info(db)


class Role(db.Model, fsqla_v3.FsRoleMixin):
    pass


class User(db.Model, fsqla_v3.FsUserMixin):
    # Users who sign up with their mobile have no email.
    email: Mapped[str | None] = mapped_column(String(255), unique=True)
    mobile: Mapped[str | None] = mapped_column(String(16))


users = SQLAlchemyUserDatastore(db, User, Role)
security = Security()
smsverify = SMSVerify()


@smsverify.user_factory
def create_user(_mobile):
    return users.create_user(fs_uniquifier=uuid.uuid4().hex)


def remember_authentication(_app, **_):
    """Do what Flask-Security does at its own login, for `auth_required(within=…)` and CSRF."""
    session["fs_paa"] = time.time()
    session["fs_cc"] = "set"


def create_app(config=None):
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "change-me"
    app.config["SECURITY_PASSWORD_SALT"] = "change-me-too"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///users.sqlite"
    app.config["SMSVERIFY_SIGN_IN"] = True
    app.config["SMSVERIFY_GROUPS_FIELD"] = "roles"
    app.config.from_mapping(config or {})

    db.init_app(app)
    security.init_app(app, users)  # sets Flask-Login up
    smsverify.init_app(app, db, user_model=User)
    signed_in.connect(remember_authentication, app)

    with app.app_context():
        db.create_all()

    @app.get("/account")
    @auth_required("session", within=60)
    def account():
        return "your account"

    @app.get("/staff")
    @roles_required("admin")
    def staff():
        return "for staff"

    return app
