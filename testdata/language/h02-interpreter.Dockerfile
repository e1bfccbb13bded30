FROM scratch
RUN <<EOF
#!/usr/bin/env python3
print(1)
EOF
RUN <<../../x
#!/bin/sh
../../x
