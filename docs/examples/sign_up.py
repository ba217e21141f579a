from app import User, db, smsverify
from flask import Blueprint, redirect, render_template, request, session, url_for
from flask_login import login_user

from flask_smsverify.errors import ProblemError

sign_up = Blueprint("sign_up", __name__, url_prefix="/sign-up")


@sign_up.route("/", methods=["GET", "POST"])
def enter_mobile():
    error = None
    if request.method == "POST":
        try:
            challenge = smsverify.verifier.start_for(
                request.form["mobile"], purpose="sign-up", ip=request.remote_addr
            )
        except ProblemError as problem:
            error = problem.title
        else:
            session["challenge"] = challenge.id
            return redirect(url_for("sign_up.enter_code"))
    return render_template("sign_up/mobile.html", error=error)


@sign_up.route("/code", methods=["GET", "POST"])
def enter_code():
    error = None
    if request.method == "POST":
        try:
            challenge = smsverify.verifier.load(session.get("challenge", ""))
            proof = smsverify.verifier.check(
                challenge, request.form["code"], ip=request.remote_addr
            )
        except ProblemError as problem:
            error = problem.title
        else:
            session["token"] = smsverify.verifier.proof_token(proof)
            return redirect(url_for("sign_up.create_account"))
    return render_template("sign_up/code.html", error=error)


@sign_up.route("/account", methods=["GET", "POST"])
def create_account():
    error = None
    if request.method == "POST":
        user = User()  # and the other fields of the form
        db.session.add(user)
        try:
            smsverify.verifier.claim(session.get("token", ""), user, purpose="sign-up")
            db.session.commit()
        except ProblemError as problem:
            db.session.rollback()
            error = problem.title
        else:
            session.pop("token")
            login_user(user)
            return redirect("/")
    return render_template("sign_up/account.html", error=error)
