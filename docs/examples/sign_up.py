from app import User, db, smsverify
from flask import Blueprint, redirect, render_template, request, session, url_for
from flask_login import login_user

from flask_smsverify.errors import CodeExpired, InvalidToken, NoChallenge

sign_up = Blueprint("sign_up", __name__, url_prefix="/sign-up")
smsverify.handle_errors(sign_up)  # a wrong code is a page or problem JSON, and not a 500


@sign_up.errorhandler(CodeExpired)
@sign_up.errorhandler(NoChallenge)
@sign_up.errorhandler(InvalidToken)  # the proof has expired or was used
def start_again(error):
    return smsverify.problem(error, back_url=url_for("sign_up.enter_mobile"))


@sign_up.route("/", methods=["GET", "POST"])
def enter_mobile():
    if request.method == "GET":
        return render_template("sign_up/mobile.html")
    challenge = smsverify.verifier.start_for(
        request.form["mobile"], purpose="sign-up", ip=request.remote_addr
    )
    session["challenge"] = challenge.id
    return redirect(url_for("sign_up.enter_code"))


@sign_up.route("/code", methods=["GET", "POST"])
def enter_code():
    if request.method == "GET":
        return render_template("sign_up/code.html")
    challenge = smsverify.verifier.load(session.get("challenge", ""))
    proof = smsverify.verifier.check(challenge, request.form["code"], ip=request.remote_addr)
    session["token"] = smsverify.verifier.proof_token(proof)
    return redirect(url_for("sign_up.create_account"))


@sign_up.route("/account", methods=["GET", "POST"])
def create_account():
    if request.method == "GET":
        return render_template("sign_up/account.html")
    user = User()  # and the other fields of the form
    db.session.add(user)
    smsverify.verifier.claim(session.get("token", ""), user, purpose="sign-up")
    db.session.commit()
    session.pop("token")
    login_user(user)
    return redirect("/")
