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
command=$(printf '%s' "cd /opt/facewire && { $*; } 2>&1" | sed 's/[\\"]/\\&/g')
id=$(aws ssm send-command --instance-ids "$instance" --document-name AWS-RunShellScript \
    --parameters "{\"commands\": [\"$command\"]}" --query Command.CommandId --output text)
tab=$(printf '\t')
failures=0
while :; do
    # Status and output, separated by a tab. The invocation exists a moment after its command.
    result=$(aws ssm get-command-invocation --instance-id "$instance" --command-id "$id" --output text \
        --query '[Status, StandardOutputContent]' 2>&1) || {
        failures=$((failures + 1))
        [ "$failures" -lt 10 ] || {
            echo "run.sh: $result" >&2
            exit 1
        }
        result=Pending
    }
    case ${result%%"$tab"*} in
    Pending | InProgress | Delayed | Cancelling) sleep 1 ;;
    *) break ;;
    esac
done
printf '%s\n' "${result#*"$tab"}"
[ "${result%%"$tab"*}" = Success ] || {
    echo "run.sh: the command ended with status ${result%%"$tab"*}" >&2
    exit 1
}
