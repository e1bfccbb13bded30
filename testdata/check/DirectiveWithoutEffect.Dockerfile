# finds DirectiveWithoutEffect at 2
# escape=`
FROM scratch
LABEL a=1
# check=skip=all
