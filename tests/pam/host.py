"""A program that logs users in with PAM, one step at a time, as login programs do.

Reads a JSON list a line from standard input: ["start", SERVICE, USER], ["answers", ANSWER...],
["authenticate"], ["acct_mgmt"], ["open_session"], ["close_session"], ["chauthtok", FLAGS], ["end"],
["environment"], ["putenv", SETTING], ["close_all"], ["descriptors"],
["memory"],
["ask_name", UID], ["read_name"], ["fork", SERVICE, USER]. After "fork" a child goes on and PAM's data is gone in it, except its
environment, as in sshd. Answers each with {"result": ..., "said": [[STYLE, TEXT]...], "seconds": ...}.
"""

import ctypes
import json
import os
import sys
import time

PAM = ctypes.CDLL("libpam.so.0")
LIBC = ctypes.CDLL("libc.so.6")
LIBC.calloc.restype = LIBC.strdup.restype = ctypes.c_void_p
LIBC.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
LIBC.strdup.argtypes = [ctypes.c_char_p]


class Passwd(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p)]


LIBC.getpwuid.restype = ctypes.POINTER(Passwd)


class Message(ctypes.Structure):
    _fields_ = [("style", ctypes.c_int), ("text", ctypes.c_char_p)]


class Response(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("code", ctypes.c_int)]


CONVERSE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(Message)),
                            ctypes.POINTER(ctypes.POINTER(Response)), ctypes.c_void_p)


class Conversation(ctypes.Structure):
    _fields_ = [("function", CONVERSE), ("data", ctypes.c_void_p)]


PAM.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)
PAM.pam_getenvlist.argtypes = [ctypes.c_void_p]
for name in ("authenticate", "acct_mgmt", "open_session", "close_session", "chauthtok", "end"):
    getattr(PAM, f"pam_{name}").argtypes = [ctypes.c_void_p, ctypes.c_int]

said, answers = [], []
asked = None


def converse(count, messages, responses, _data):
    made = ctypes.cast(LIBC.calloc(count, ctypes.sizeof(Response)), ctypes.POINTER(Response))
    for i in range(count):
        message = messages[i].contents
        said.append([message.style, message.text.decode(errors="replace")])
        if message.style in (1, 2):
            if not answers:
                return 19
            made[i].text = LIBC.strdup(answers.pop(0).encode())
    responses[0] = made
    return 0


function = CONVERSE(converse)
conversation = Conversation(function, None)
handle = ctypes.c_void_p()


def environment():
    listed, found = PAM.pam_getenvlist(handle), []
    while listed and listed[len(found)] is not None:
        found.append(listed[len(found)].decode())
    return found


def start(service, user):
    return PAM.pam_start(service.encode(), user.encode(), ctypes.byref(conversation),
                         ctypes.byref(handle))


def fork(service, user):
    """The parent, which authenticated, ends; the child starts anew with PAM's environment."""
    kept = environment()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    result = start(service, user)
    for setting in kept:
        PAM.pam_putenv(handle, setting.encode())
    return result


def step(words):
    name, rest = words[0], words[1:]
    if name == "answers":
        answers[:] = rest
        return 0
    if name in ("start", "fork"):
        return {"start": start, "fork": fork}[name](*rest)
    if name == "environment":
        return environment()
    if name == "close_all":  # as programs do that do not know what libraries have open
        os.closerange(3, 1000)
        for _ in range(20):
            os.open("/dev/null", os.O_RDONLY)
        return 0
    if name == "memory":  # KiB that are locked, as this module's secrets are, and no others here
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmLck"))
    if name == "ask_name":  # what the program itself was told, and reads later
        global asked
        asked = LIBC.getpwuid(rest[0])
        return 0
    if name == "read_name":
        return asked.contents.name.decode()
    if name == "descriptors":
        return len(os.listdir("/proc/self/fd"))
    if name == "putenv":
        return PAM.pam_putenv(handle, rest[0].encode())
    if name == "end":
        return PAM.pam_end(handle, 0)
    return getattr(PAM, f"pam_{name}")(handle, rest[0] if rest else 0)


for line in sys.stdin:
    said.clear()
    begun = time.monotonic()
    result = step(json.loads(line))
    print(json.dumps({"result": result, "said": said, "seconds": time.monotonic() - begun}), flush=True)
