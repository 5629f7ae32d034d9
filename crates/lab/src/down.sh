# Takes down one run. Waits for the lab that started it to end, however that happens: its end of the pipe on stdin closes.
# Standard output is the machine-wide lock, so the lock is free only when nothing is left. Called again it does nothing.
state=$1
[ "$2" = now ] || cat >/dev/null
[ -f "$state" ] || exit 0
. "$state" # RUN BASE WORK NETNS_OURS KEEP NOTICE

# Processes first: they hold namespaces and mounts. cgroup.kill came with Linux 5.14.
tries=0
while [ -d "$BASE" ] && grep -q '^populated 1' "$BASE/cgroup.events" && [ $tries -lt 500 ]; do
    if [ -w "$BASE/cgroup.kill" ]; then
        echo 1 >"$BASE/cgroup.kill"
    else
        find "$BASE" -name cgroup.procs -exec cat {} + 2>/dev/null | xargs -r kill -9 2>/dev/null
    fi
    tries=$((tries + 1))
    sleep 0.02
done

# Then the pins: with them the kernel programs go.
tac /proc/mounts | while read -r _ target _; do
    case $target in "$WORK" | "$WORK"/*) umount "$target" 2>/dev/null || umount -l "$target" ;; esac
done

for ns in /run/netns/"$RUN"-*; do
    [ -e "$ns" ] && ip netns delete "${ns##*/}"
done
if [ "$NETNS_OURS" = 1 ] && rmdir /run/netns 2>/dev/null; then :; elif [ "$NETNS_OURS" = 1 ] && [ -z "$(ls -A /run/netns 2>/dev/null)" ]; then
    umount /run/netns 2>/dev/null
    rmdir /run/netns 2>/dev/null
fi

[ -d "$BASE" ] && find "$BASE" -depth -type d -exec rmdir {} \; 2>/dev/null
[ "$KEEP" = 1 ] || rm -rf --one-file-system "$WORK"
[ -n "$NOTICE" ] && rm -rf --one-file-system "$NOTICE"
rm -f "$state"
rmdir "${state%/*}" 2>/dev/null
exit 0
