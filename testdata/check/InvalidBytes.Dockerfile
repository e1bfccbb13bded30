# finds InvalidBytes at 6
# finds InvalidBytes at 10
# A comment may hold any byte: é
FROM scratch
# café
LABEL drink=café price=¤
LABEL one=1 \
    # é
    two=2 \
    three=é
