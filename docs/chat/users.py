"""Users and their passwords, in SQLite. `python users.py alice` adds one, or changes a password."""

import getpass
import hashlib
import secrets
import sqlite3
import sys
from contextlib import closing
from typing import Any

TABLES = """
create table if not exists users (name text primary key, salt blob, digest blob);
create table if not exists sockets (id text primary key, login text);
"""


def run(query: str, *values: object) -> Any:
    """The first row, or None."""
    with closing(sqlite3.connect("chat.db", isolation_level=None)) as db:
        db.executescript(TABLES)
        return db.execute(query, values).fetchone()


def digest_of(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def set_password(name: str, password: str) -> None:
    salt = secrets.token_bytes(16)
    run("replace into users values (?, ?, ?)", name, salt, digest_of(password, salt))


def is_right(name: str, password: str) -> bool:
    found = run("select salt, digest from users where name = ?", name)
    salt, digest = found or (b"", b"")  # an unknown name takes as long as a wrong password
    return secrets.compare_digest(digest_of(password, salt), digest)


def note_socket(socket: str, login: str | None) -> None:
    """Remembers with which login a socket was opened."""
    run("insert into sockets values (?, ?)", socket, login)


def forget_socket(socket: str) -> None:
    run("delete from sockets where id = ?", socket)


def login_of(socket: str) -> str | None:
    found = run("select login from sockets where id = ?", socket)
    return found[0] if found else None


if __name__ == "__main__":
    set_password(sys.argv[1], getpass.getpass())
