#!/bin/sh
# Starts nginx in front of the online replicas, and has it follow their addresses, which change when a container is made anew.
#
#     AIRLOOP_BALANCE    least_conn (unless set), round_robin, ip_hash, or canary:N - the last replica takes N percent
#     AIRLOOP_REPLICAS   host:port of each, separated by spaces
#     AIRLOOP_LISTEN     where the proxy listens; 8000 unless set
#     start.sh --print   only says what it would write
set -eu
balance=${AIRLOOP_BALANCE:-least_conn}
replicas=${AIRLOOP_REPLICAS:?say host:port of each replica, separated by spaces}
folder=${AIRLOOP_PROXY_FOLDER:-/tmp}
config=${AIRLOOP_PROXY_CONFIG:-/etc/airloop/nginx.conf}

wrong() {
    echo "AIRLOOP_BALANCE='$balance' is unknown; use least_conn, round_robin, ip_hash, or canary:N with N from 1 to 99." >&2
    exit 1
}

share=
case $balance in
    least_conn | ip_hash) method="$balance;" ;;
    round_robin) method= ;;
    canary:[1-9] | canary:[1-9][0-9]) method= share=${balance#canary:} ;;
    *) wrong ;;
esac

upstream() {
    count=$(echo "$replicas" | wc -w) number=0
    echo "upstream online {"
    if [ -n "$method" ]; then echo "    $method"; fi
    for replica in $replicas; do
        number=$((number + 1)) weight=
        if [ -n "$share" ] && [ "$number" -lt "$count" ]; then weight=" weight=$((100 - share))"; fi
        if [ -n "$share" ] && [ "$number" -eq "$count" ]; then weight=" weight=$((share * (count - 1)))"; fi
        address=$(getent ahostsv4 "${replica%:*}" | head -n 1 | cut -d ' ' -f 1)
        # A replica that is stopped has no address. It keeps its place, so that ip_hash sends the others' clients where they were.
        if [ -z "$address" ]; then address=127.0.0.1 weight=" down"; fi
        echo "    server $address:${replica##*:}$weight max_fails=2 fail_timeout=1s;"
    done
    echo "    zone online 64k;" # one count for all worker processes
    echo "    keepalive 32;"
    echo "    keepalive_timeout 4s;" # below uvicorn's 5
    echo "}"
}

if [ "${1:-}" = --print ]; then upstream; exit; fi

upstream > "$folder/upstream.conf"
echo "listen ${AIRLOOP_LISTEN:-8000};" > "$folder/listen.conf"
cp "$config" "$folder/nginx.conf" # paths in it are relative
nginx -p "$folder" -c "$folder/nginx.conf" -g 'daemon off;' &
nginx=$!
trap 'kill -QUIT $nginx' TERM INT QUIT # nginx's own graceful end

while kill -0 $nginx 2>/dev/null; do
    upstream > "$folder/next.conf"
    if ! cmp -s "$folder/next.conf" "$folder/upstream.conf"; then
        mv "$folder/next.conf" "$folder/upstream.conf"
        kill -HUP $nginx
    fi
    sleep 1 &
    wait $! || true # a signal ends the wait at once
done
wait $nginx || true
