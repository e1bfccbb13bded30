# finds NoEmptyContinuation at 3
FROM scratch
LABEL a=b \

  c=d
