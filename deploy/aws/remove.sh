#!/bin/sh
# Removes everything that the template has created. Whether the faces are deleted or kept is the stack's parameter
# FacesOnRemoval, unless the second argument says it.
#
#     sh deploy/aws/remove.sh STACK [keep|delete]
#
# It needs the AWS CLI, and nothing else.
set -eu
case $#${2-} in
1 | 2keep | 2delete) ;;
*)
    echo "usage: remove.sh STACK [keep|delete]" >&2
    exit 64
    ;;
esac
stack=$1
resources=$(aws cloudformation describe-stack-resources --stack-name "$stack" --output text \
    --query 'StackResources[?PhysicalResourceId].[LogicalResourceId, PhysicalResourceId]')
resource() {
    printf '%s\n' "$resources" | awk -v name="$1" '$1 == name { print $2 }'
}
bucket=$(resource Bucket)
faces=${2-$(aws cloudformation describe-stacks --stack-name "$stack" --output text \
    --query "Stacks[0].Parameters[?ParameterKey=='FacesOnRemoval'].ParameterValue")}

# The operator made the keys of this user. A user who has keys cannot be deleted.
user=$(resource Gallery)
if [ -n "$user" ]; then
    for key in $(aws iam list-access-keys --user-name "$user" --query 'AccessKeyMetadata[].AccessKeyId' --output text); do
        aws iam delete-access-key --user-name "$user" --access-key-id "$key"
    done
fi

echo "removing $stack: this takes some minutes"
aws cloudformation delete-stack --stack-name "$stack"
aws cloudformation wait stack-delete-complete --stack-name "$stack"

# The sink is gone by now, so nothing is written any more.
if [ -z "$bucket" ] || ! aws s3api head-bucket --bucket "$bucket" >/dev/null 2>&1; then
    echo "removed: nothing is left"
elif [ "$faces" = delete ]; then
    echo "deleting the faces in $bucket"
    aws s3 rb --force "s3://$bucket" >/dev/null
    echo "removed: nothing is left"
else
    echo "removed: only the bucket with the faces is left. To delete it: aws s3 rb --force s3://$bucket"
fi
