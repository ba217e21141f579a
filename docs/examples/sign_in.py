from flask import Flask
from flask_login import LoginManager, UserMixin, current_user, login_required
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from flask_smsverify import SMSVerify

db = SQLAlchemy()
login_manager = LoginManager()
login_manager.login_view = "smsverify.sign_in"
smsverify = SMSVerify()


class User(UserMixin, db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    mobile: Mapped[str | None] = mapped_column(String(16))


@login_manager.user_loader
def load_user(user_id):
    return db.session.get(User, int(user_id))


@smsverify.user_factory
def create_user(mobile):
    return User(mobile=mobile)


def create_app(config=None):
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "change-me"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///sign-in.sqlite"
    app.config["SMSVERIFY_SIGN_IN"] = True
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})

    db.init_app(app)
    login_manager.init_app(app)
    smsverify.init_app(app, db, user_model=User)

    with app.app_context():
        db.create_all()  # includes the tables of flask_smsverify

    @app.get("/")
    @login_required
    def home():
        return f"You are signed in as user {current_user.id}."

    return app
