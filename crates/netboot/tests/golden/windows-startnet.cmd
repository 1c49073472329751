@echo off
rem Windows PE runs this when it starts; unattend.xml lies beside it.
wpeinit
net use Z: "\\files\win" /user:"setup" "100%% & more"
Z:\setup.exe /unattend:X:\Windows\System32\unattend.xml
