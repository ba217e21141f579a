"""The shop's extensions, made here without an app and bound to one in `create_app`."""

from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy.orm import DeclarativeBase

from flask_smsverify import SMSVerify


class Base(DeclarativeBase):
    """What every table of the shop is built on."""


db = SQLAlchemy(model_class=Base)
login_manager = LoginManager()
csrf = CSRFProtect()
smsverify = SMSVerify()
