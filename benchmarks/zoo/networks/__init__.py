"""Networks written in the manner of different people, on purpose in different styles.

Nothing here is shared between the files, and nothing comes from the reference networks of
nav_monitor_ros: a monitor must not depend on how a network is written.
"""
