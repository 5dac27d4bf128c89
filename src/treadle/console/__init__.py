"""The console: the loop in a browser, server-rendered, for those who ask whether it turns and for those who keep it turning.

Every page is a read of operations, said in words first; the one thing it writes is a person's answer to a question. Nothing is loaded from
another host, and no page needs a build step. `app.build_console` makes the application, `docs/console.md` tells how to read it.
"""
