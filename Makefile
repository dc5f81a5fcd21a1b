PYTHON ?= python3
VENV ?= .venv

.PHONY: run check fmt bench clean

run:            ## set up, start the server with the built-in voice, speak
	PYTHON=$(PYTHON) VENV=$(VENV) bash deploy/quickstart.sh

check:          ## everything CI runs, in the current environment
	bash scripts/check.sh

fmt:
	ruff format . && ruff check --fix .

bench:
	$(PYTHON) -m sled_tts.clients.main bench codec

clean:
	rm -rf build dist *.egg-info site-paths .pytest_cache .mypy_cache .ruff_cache .hypothesis
