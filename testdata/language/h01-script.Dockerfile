FROM scratch
RUN <<EOF
false
true
EOF
RUN <<-EOF
	tabs
	EOF
