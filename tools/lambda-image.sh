#!/usr/bin/env bash
# tools/lambda-image.sh SAM_VENV PYTHON313_PREFIX WORKDIR: makes a stand-in for the container image
# public.ecr.aws/lambda/python:3.13-x86_64, for `make invoke` where that registry is out of reach. It is Debian with a
# CPython 3.13 of your own, awslambdaric and boto3 from the package index, and the Runtime Interface Emulator that comes
# with the SAM CLI. It is NOT Amazon Linux: where the registry can be reached, the real image is used instead.
# Needs root, a container engine and debootstrap (on Debian and Ubuntu: apt install docker.io debootstrap).
set -euo pipefail
sam_venv=$1; py=$2; work=$3
root=$work/rootfs
[ -d "$root" ] || debootstrap --variant=minbase \
  --include=ca-certificates,libssl3,libsqlite3-0,libffi8,zlib1g,libbz2-1.0,liblzma5,libreadline8 bookworm "$root" >"$work/debootstrap.log" 2>&1
mkdir -p "$root"/var/lang "$root"/var/runtime "$root"/var/task "$root"/opt "$root"/etc/pki/tls/certs
ln -sf /etc/ssl/certs/ca-certificates.crt "$root"/etc/pki/tls/certs/ca-bundle.crt  # where Amazon Linux keeps the roots
cp -a "$py/." "$root/var/lang/"
rm -rf "$root"/var/lang/lib/python3.13/test "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb
"$py/bin/python3" -m pip install -q --target "$root/var/runtime" awslambdaric boto3
cat >"$root/var/runtime/bootstrap" <<'B'
#!/bin/sh
export PYTHONPATH="/var/task:/opt/python:/var/runtime:$PYTHONPATH" LD_LIBRARY_PATH=/var/lang/lib:$LD_LIBRARY_PATH
cd /var/task
exec /var/lang/bin/python3.13 -m awslambdaric "$_HANDLER"
B
cat >"$root/lambda-entrypoint.sh" <<'B'
#!/bin/sh
export _HANDLER="$1"
if [ -z "$AWS_LAMBDA_RUNTIME_API" ]; then exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap; else exec /var/runtime/bootstrap; fi
B
cp "$sam_venv"/lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64 "$root/usr/local/bin/aws-lambda-rie"
chmod +x "$root"/var/runtime/bootstrap "$root"/lambda-entrypoint.sh "$root"/usr/local/bin/aws-lambda-rie
tar -C "$root" -c . | docker import --change 'ENTRYPOINT ["/lambda-entrypoint.sh"]' \
  --change 'ENV PATH=/var/lang/bin:/usr/local/bin:/usr/bin:/bin LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime' \
  --change 'WORKDIR /var/task' - public.ecr.aws/lambda/python:3.13-x86_64
