"""Mounts a FUSE filesystem that never answers, as an ordinary user: hang.py DIRECTORY. Says "mounted"
and stays until it is killed."""

import array
import os
import signal
import socket
import subprocess
import sys

ours, theirs = socket.socketpair()
subprocess.run(["fusermount3", "-o", "rw,nosuid,nodev", "--", sys.argv[1]], check=True,
               env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()])
_, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
device = array.array("i", ancillary[0][2])[0]  # kept open, never read
print("mounted", flush=True)
signal.pause()
