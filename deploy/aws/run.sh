#!/bin/sh
# Runs a command on the instance, in the folder with the compose file, and prints its output.
#
#     sh deploy/aws/run.sh STACK COMMAND...
#     sh deploy/aws/run.sh facewire docker compose -f docker-compose.cloud.yml ps
#
# Systems Manager carries the command: no port is open for it. It needs the AWS CLI, and nothing else.
set -eu
[ $# -ge 2 ] || {
    echo "usage: run.sh STACK COMMAND..." >&2
    exit 64
}
stack=$1
shift
instance=$(aws cloudformation describe-stack-resources --stack-name "$stack" --output text \
    --query "StackResources[?LogicalResourceId=='Instance'].PhysicalResourceId")
# As a string in JSON.
command=$(printf '%s' "cd /opt/facewire && $*" | sed 's/[\\"]/\\&/g')
id=$(aws ssm send-command --instance-ids "$instance" --document-name AWS-RunShellScript \
    --parameters "{\"commands\": [\"$command\"]}" --query Command.CommandId --output text)
result() {
    aws ssm get-command-invocation --instance-id "$instance" --command-id "$id" --query "$1" --output text
}
# The invocation exists a moment after its command.
while status=$(result Status 2>/dev/null) || status=Pending; do
    case $status in
    Pending | InProgress | Delayed | Cancelling) sleep 1 ;;
    *) break ;;
    esac
done
result StandardOutputContent
result StandardErrorContent >&2
[ "$status" = Success ] || {
    echo "run.sh: the command ended with status $status" >&2
    exit 1
}
