"""The pytest plugin, in test runs of its own: the fixture, its marker, its settings, its cost."""

import subprocess
import sys

import pytest

import smtp_server.testing  # noqa: F401 before pytester, which would have it imported twice

# Of the other plugins here, one warns unless it is set up, and one takes a second each time.
WITHOUT = ("-p", "no:asyncio", "-p", "no:hypothesispytest", "-p", "no:cacheprovider")
OPTIONS = (*WITHOUT, "-W", "error", "--strict-markers")

SEND = """
import smtplib

import pytest


def send(smtpd, subject="Hello"):
    with smtplib.SMTP(smtpd.host, smtpd.port, timeout=30) as client:
        client.sendmail("anne@example.com", ["bart@example.com"], f"Subject: {subject}\\n\\nHi!\\n")
"""


def run(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    """Run tests in this process, which is quick."""
    pytester.makepyfile(SEND + tests)
    return pytester.runpytest_inprocess(*OPTIONS, *options)


def run_apart(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    """Run tests in a process of their own, as their author would."""
    pytester.makepyfile(SEND + tests)
    return pytester.runpytest_subprocess(*OPTIONS, *options)


def test_fixture(pytester: pytest.Pytester) -> None:
    tests = """
def test_one(smtpd):
    send(smtpd)
    assert [message["Subject"] for message in smtpd.messages] == ["Hello"]

def test_each_test_has_its_own(smtpd):
    assert smtpd.messages == []
    smtpd.fail_next("RCPT", "450 4.2.0 try later")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(smtpd)
"""
    run_apart(pytester, tests).assert_outcomes(passed=2)


def test_server_is_gone_after_its_test(pytester: pytest.Pytester) -> None:
    tests = """
servers = []

def test_one(smtpd):
    servers.append(smtpd)
    send(smtpd)

def test_two():
    with pytest.raises(ConnectionRefusedError):
        send(servers[0])
    assert len(servers[0].messages) == 1
"""
    run(pytester, tests).assert_outcomes(passed=2)


def test_marker(pytester: pytest.Pytester) -> None:
    tests = """
pytestmark = pytest.mark.smtp(data_size_limit=10, ident="module")

def refused(smtpd):
    with pytest.raises(smtplib.SMTPSenderRefused, match="552"):
        send(smtpd)

def greeting(smtpd):
    client = smtplib.SMTP()
    client.timeout = 30
    code, text = client.connect(smtpd.host, smtpd.port)
    client.close()
    return text

def test_of_the_module(smtpd):
    refused(smtpd)
    assert greeting(smtpd) == b"localhost module"

@pytest.mark.smtp(ident="class")
class TestClass:
    def test_of_the_class(self, smtpd):
        refused(smtpd)
        assert greeting(smtpd) == b"localhost class"

    @pytest.mark.smtp(ident="test", data_size_limit=None)
    def test_of_the_test(self, smtpd):
        send(smtpd)
        assert greeting(smtpd) == b"localhost test"
"""
    run(pytester, tests).assert_outcomes(passed=3)


def test_marker_with_tls_and_auth(pytester: pytest.Pytester) -> None:
    tests = """
def login_and_send(smtpd, client):
    client.login("anne", "secret")
    client.sendmail("anne@example.com", ["bart@example.com"], "Subject: Hello\\n\\nHi!\\n")
    [session] = smtpd.sessions
    assert session.tls
    assert session.authenticated

@pytest.mark.smtp(tls="implicit", auth={"anne": "secret"})
def test_implicit(smtpd):
    context = smtpd.client_context
    with smtplib.SMTP_SSL(smtpd.host, smtpd.port, context=context, timeout=30) as client:
        login_and_send(smtpd, client)

@pytest.mark.smtp(tls="starttls", auth={"anne": "secret"})
def test_starttls(smtpd):
    with smtplib.SMTP(smtpd.host, smtpd.port, timeout=30) as client:
        client.starttls(context=smtpd.client_context)
        login_and_send(smtpd, client)
"""
    run(pytester, tests).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ('"implicit"', "*the smtp marker takes keywords alone, not ('implicit',)*"),
        ('tls="tls"', "*ValueError: tls is *not 'tls'"),
        ("timeuot=1", "*TypeError: there is no keyword 'timeuot'; did you mean 'timeout'?"),
    ],
)
def test_wrong_marker(pytester: pytest.Pytester, arguments: str, error: str) -> None:
    tests = f"""
@pytest.mark.smtp({arguments})
def test_one(smtpd):
    pass
"""
    result = run(pytester, tests)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([error])


def test_settings(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        """
        [pytest]
        smtp_tls = starttls
        smtp_auth =
            anne:secret
            bart:colons:in:it
        """
    )
    tests = """
@pytest.mark.parametrize(("user", "password"), [("anne", "secret"), ("bart", "colons:in:it")])
def test_of_the_project(smtpd, user, password):
    with smtplib.SMTP(smtpd.host, smtpd.port, timeout=30) as client:
        client.starttls(context=smtpd.client_context)
        client.login(user, password)

@pytest.mark.smtp(tls=None, auth=None)
def test_marker_comes_first(smtpd):
    send(smtpd)
"""
    run(pytester, tests).assert_outcomes(passed=3)


def test_wrong_setting(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nsmtp_tls = tls")
    result = run(pytester, "def test_one(smtpd): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ValueError: tls is *not 'tls'"])


def test_help(pytester: pytest.Pytester) -> None:
    fixtures = pytester.runpytest_inprocess(*OPTIONS, "--fixtures")
    fixtures.stdout.fnmatch_lines(["smtpd -- *", "*A mail server on a free port*"])
    markers = pytester.runpytest_inprocess(*OPTIONS, "--markers")
    markers.stdout.fnmatch_lines(["@pytest.mark.smtp(*): *"])


def test_nothing_is_imported_before_it_is_used(pytester: pytest.Pytester) -> None:
    tests = """
import sys

@pytest.mark.smtp(tls="implicit")
def test_one():
    assert "_smtp_server_pytestplugin" in sys.modules
    assert [name for name in sys.modules if name.partition(".")[0] == "smtp_server"] == []
"""
    run_apart(pytester, tests).assert_outcomes(passed=1)


def test_it_can_be_switched_off(pytester: pytest.Pytester) -> None:
    result = run_apart(pytester, "def test_one(smtpd): pass", "-p", "no:smtp_server")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'smtpd' not found"])


def test_the_kit_does_without_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import smtp_server.testing"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_xdist(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    tests = """
@pytest.mark.parametrize("number", range(20))
def test_one(smtpd, number):
    send(smtpd, number)
    [message] = smtpd.wait_for(1)
    assert message["Subject"] == str(number)
"""
    run_apart(pytester, tests, "-n", "3").assert_outcomes(passed=20)


OTHER_PLUGIN = """
import pytest

@pytest.fixture{arguments}
def {function}():
    return "of the other"
"""

GIVES_WAY = """
def test_one(smtpd, smtp_test_server):
    assert smtpd == "of the other"
    send(smtp_test_server)
    assert len(smtp_test_server.messages) == 1

@pytest.mark.smtp(ident="marker")
def test_other_name_has_the_marker(smtpd_factory, smtp_test_server_factory):
    assert smtpd_factory is smtp_test_server_factory
    assert smtpd_factory(tls="implicit").tls == "implicit"
"""


@pytest.mark.parametrize(
    ("arguments", "function"), [("", "smtpd"), ('(name="smtpd")', "_smtpd"), ("()", "smtpd")]
)
@pytest.mark.parametrize("order", ["before", "behind"])
def test_smtpd_gives_way_to_another_plugin_whichever_is_loaded_first(
    pytester: pytest.Pytester, arguments: str, function: str, order: str
) -> None:
    other = OTHER_PLUGIN.format(arguments=arguments, function=function)
    pytester.makepyfile(other_plugin=other)
    names = ["other_plugin", "_smtp_server_pytestplugin"]
    if order == "behind":
        names.reverse()
    # Without the entry points, so that the order is ours.
    options = ["--disable-plugin-autoload", *(part for name in names for part in ("-p", name))]
    pytester.makepyfile(SEND + GIVES_WAY)
    result = pytester.runpytest_subprocess("-W", "error", "--strict-markers", *options)
    result.assert_outcomes(passed=2)


def test_smtpd_gives_way_to_a_plugin_of_the_conftest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(other_plugin=OTHER_PLUGIN.format(arguments="", function="smtpd"))
    pytester.makeconftest('pytest_plugins = ["other_plugin"]')
    run_apart(pytester, GIVES_WAY).assert_outcomes(passed=2)


def test_smtpd_gives_way_to_a_conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(OTHER_PLUGIN.format(arguments="", function="smtpd"))
    run(pytester, GIVES_WAY).assert_outcomes(passed=2)


def test_a_conftest_may_build_on_smtpd(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def smtpd(smtpd):
            smtpd.fail_next("MAIL", 550)
            return smtpd
        """
    )
    tests = """
def test_one(smtpd, smtp_test_server):
    assert smtpd is smtp_test_server
    with pytest.raises(smtplib.SMTPSenderRefused):
        send(smtpd)
"""
    run(pytester, tests).assert_outcomes(passed=1)


def test_smtpd_factory_gives_way_by_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(other_plugin=OTHER_PLUGIN.format(arguments="", function="smtpd_factory"))
    tests = """
def test_one(smtpd, smtp_test_server, smtpd_factory):
    assert smtpd is smtp_test_server
    assert smtpd_factory == "of the other"
"""
    run_apart(pytester, tests, "-p", "other_plugin").assert_outcomes(passed=1)
