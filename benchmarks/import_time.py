"""How much longer `import attrax` takes than `import jax`: the best of five interpreters each."""

import subprocess
import sys

CODE = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(module: str) -> float:
    command = [sys.executable, "-c", CODE.format(module)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    pairs = [(seconds("jax"), seconds("attrax")) for _ in range(5)]
    jax, attrax = (min(times) for times in zip(*pairs, strict=True))
    print(f"import jax {jax:.2f} s, import attrax {attrax:.2f} s: {attrax - jax:.2f} s more")


if __name__ == "__main__":
    main()
