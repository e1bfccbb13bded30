# check=experimental=all
# finds InvalidDefinitionDescription at 3
# something about it
FROM scratch AS a
# b is another stage
FROM scratch AS b
