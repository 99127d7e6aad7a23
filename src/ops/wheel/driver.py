# Calls one hook of a build backend (PEP 517), and writes what it gives as JSON. Runs in the directory of the source.
import json
import os
import sys

request = json.loads(sys.argv[1])
os.umask(0o022)
sys.path[:] = [path for path in sys.path if path not in ("", ".")]
tried = []


def answer(**fields):
    with open(request["answer"], "w", encoding="utf-8") as file:
        json.dump(fields, file)


def watch(event, args):
    # Of programs that a backend starts, the kernel counts the attempts.
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if not isinstance(args[1], tuple):
            return
        target = "%s port %s" % args[1][:2]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        target = str(args[0])
    else:
        return
    tried.append(target)
    raise OSError("dmoci builds without network: no connection to " + target)


def describe():
    import platform
    import sysconfig
    import zlib

    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    if not libc and "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""):
        libc = "musl 1.2"
    return {
        "executable": os.path.realpath(sys.executable),
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "machine": platform.machine(),
        "libc": libc.replace(" ", "-") if libc else None,
        "zlib": getattr(zlib, "ZLIBNG_VERSION", None) or zlib.ZLIB_RUNTIME_VERSION,
        "built-by": platform.python_compiler(),
        "cc": sysconfig.get_config_var("CC"),
    }


def backend():
    import importlib

    own = [os.path.abspath(path) for path in request["backend-path"]]
    sys.path[:0] = own
    name, _, attributes = request["backend"].partition(":")
    if name == "setuptools.build_meta" and attributes == "__legacy__":
        sys.path.insert(0, os.getcwd())
    found = importlib.import_module(name)
    if own:
        place = os.path.realpath(getattr(found, "__file__", None) or "")
        if not any(place.startswith(os.path.realpath(path) + os.sep) for path in own):
            raise ImportError("the backend %s is not in backend-path" % name)
    for attribute in attributes.split(".") if attributes else []:
        found = getattr(found, attribute)
    return found


def call():
    hook = request["hook"]
    if hook == "describe":
        return describe()
    sys.addaudithook(watch)
    function = getattr(backend(), hook, None)
    if hook.startswith("get_requires_for_build_"):
        wanted = function({}) if function else []
        return [str(requirement) for requirement in wanted]
    if function is None:
        raise AttributeError("the backend has no hook " + hook)
    if hook == "build_wheel":
        name = function(request["out"], {}, None)
    else:
        name = function(request["out"], {})
    if not isinstance(name, str):
        raise TypeError("the hook %s gave %r, which is no file name" % (hook, name))
    return name


try:
    value = call()
except BaseException as error:
    import traceback

    traceback.print_exc()
    sys.stderr.flush()
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    answer(error=message, tried=tried)
    sys.exit(1)
answer(value=value, tried=tried)
sys.stdout.flush()
sys.stderr.flush()
# Threads and hooks that it leaves have no say in how this ends.
os._exit(0)
