#!/usr/bin/env bash
# Prints where `otelcol`, `prometheus` and `promtool` are, for PATH:  PATH="$(grafana/stack.sh):$PATH"
#
# They are built from their Go modules, once: some 6 minutes on 2 cores. TOKENGUARD_STACK is where they are kept (default
# ~/.cache/tokenguard/stack). Needs Go 1.26 or newer. Exits 1 and says why where something cannot be built; what was
# built before stays. On Debian 12 there is a `promtool2` as well: Prometheus 2.42's, to see that it takes every query.
set -euo pipefail

COLLECTOR=0.155.0  # the newest for which every part below is published
STABLE=1.61.0      # the collector's stable modules of the same release
PROMETHEUS=0.315.0 # Prometheus 3.15.0

keep=${TOKENGUARD_STACK:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenguard/stack}
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath"

say() { echo "stack.sh: $*" >&2; }

# `go install` refuses a module with replacements, so a module of ours requires it. Service discovery is left out: it is
# most of the build, and nothing here looks for targets in a cloud.
build_prometheus() {
    local version=3.${PROMETHEUS:3:2}.${PROMETHEUS##*.}
    go mod init stack
    go get "github.com/prometheus/prometheus@v$PROMETHEUS"
    go build -mod=mod -tags remove_all_sd -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
        -o "$1/" github.com/prometheus/prometheus/cmd/{prometheus,promtool}
}

# The smallest collector that runs our configuration by each of the ways to Prometheus.
build_collector() {
    cat >manifest.yaml <<YAML
dist: { name: otelcol, output_path: $PWD/source, version: $COLLECTOR }
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v$COLLECTOR
processors:
  - gomod: go.opentelemetry.io/collector/processor/batchprocessor v$COLLECTOR
exporters:
  - gomod: go.opentelemetry.io/collector/exporter/debugexporter v$COLLECTOR
  - gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter v$COLLECTOR
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter v$COLLECTOR
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusremotewriteexporter v$COLLECTOR
providers:
  - gomod: go.opentelemetry.io/collector/confmap/provider/envprovider v$STABLE
  - gomod: go.opentelemetry.io/collector/confmap/provider/fileprovider v$STABLE
  - gomod: go.opentelemetry.io/collector/confmap/provider/yamlprovider v$STABLE
YAML
    go run "go.opentelemetry.io/collector/cmd/builder@v$COLLECTOR" --config manifest.yaml --ldflags "-s -w"
    mv source/otelcol "$1/"
}

# The old promtool is Debian's own. Nothing depends on it but one test.
fetch_old_promtool() {
    local folder=$keep/promtool2
    if [ ! -d "$folder" ] && command -v apt-get dpkg-deb >/dev/null; then
        local work
        work=$(mktemp -d)
        if (cd "$work" && chmod 755 . && apt-get download -qq prometheus && dpkg-deb -x ./*.deb . && mkdir bin &&
            ./usr/bin/promtool --version 2>&1 | grep -q 'version 2\.' && mv usr/bin/promtool bin/promtool2) >&2 2>/dev/null; then
            mv "$work/bin" "$folder"
        fi
        rm -rf "$work"
    fi
    [ ! -d "$folder" ] || printf ':%s' "$folder"
}

# build NAME VERSION: into a directory of its own, complete or not at all.
build() {
    local folder=$keep/$1-$2 work
    if [ ! -d "$folder" ]; then
        command -v go >/dev/null || {
            say "no Go toolchain on PATH. Install Go 1.26 or newer, or put otelcol, prometheus and promtool on PATH yourself."
            exit 1
        }
        say "building $1 $2 into $folder, once; this takes some minutes"
        work=$(mktemp -d)
        mkdir -p "$keep" "$work/bin"
        (cd "$work" && "build_$1" "$work/bin") >"$work/log" 2>&1 || {
            tail -5 "$work/log" >&2
            say "$1 $2 could not be built; the whole log is $work/log"
            exit 1
        }
        mv "$work/bin" "$folder"
        rm -rf "$work"
        say "$1 is built, after $SECONDS s"
    fi
    printf '%s' "$folder"
}

prometheus=$(build prometheus "$PROMETHEUS")
collector=$(build collector "$COLLECTOR")
echo "$prometheus:$collector$(fetch_old_promtool)"
