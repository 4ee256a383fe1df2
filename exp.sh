. /tmp/x/env.sh
sfx=$1; shift
env "$@" N=12 timeout 230 .venv/bin/python /tmp/x/tl.py 130 > /tmp/x/exp.$sfx 2>&1
