"""The Flask extensions of the shop. `create_app` initializes them."""

from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy.orm import DeclarativeBase

from flask_smsverify import SMSVerify


class Base(DeclarativeBase):
    """The base class of the shop's models."""


db = SQLAlchemy(model_class=Base)
login_manager = LoginManager()
csrf = CSRFProtect()
smsverify = SMSVerify()
