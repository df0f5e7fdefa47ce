#!/bin/sh
# Make sure that a Chromium is there for the browser tests: the system's own, else Debian's package, else Playwright's.
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
echo "No Chromium found; installing one for the browser tests."
if command -v apt-get >/dev/null 2>&1; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
    command -v chromium >/dev/null 2>&1 && exit 0
fi
"$1" -m playwright install chromium && exit 0
echo "Could not install Chromium. Install it by hand (apt install chromium) and run make test again." >&2
exit 1
