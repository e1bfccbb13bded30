# escape=`
# escape=\
# syntax=docker/dockerfile:1
FROM scratch
