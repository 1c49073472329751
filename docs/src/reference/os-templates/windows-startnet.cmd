@echo off
rem Windows PE runs this when it starts; unattend.xml lies beside it.
wpeinit
net use Z: {{ share|cmd }} /user:{{ share_user|cmd }} {{ secrets.share_password|cmd }}
Z:\setup.exe /unattend:X:\Windows\System32\unattend.xml
