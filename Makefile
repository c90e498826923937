# Thalweg. `make` builds ./train_gpt; `make demo` and `make test` set up a fresh Debian machine first.
#
# Features by name: make [ASAN=1] [CUDA=1] [SIM=1] [MARCH=native]. Each feature set has its own folder under build/. What is
# not named is chosen by what is there; what is asked for and missing stops the build.
CC    := gcc
MARCH ?= native
ASAN  ?= 0
CUDA  ?= 0
SIM   ?= 0

ifneq ($(filter-out 0 1,$(ASAN) $(CUDA) $(SIM)),)
$(error ASAN, CUDA and SIM are 0 or 1, here: ASAN=$(ASAN) CUDA=$(CUDA) SIM=$(SIM))
endif
ifeq ($(CUDA),1)
$(error CUDA=1: this version has no CUDA backend; build without it, the CPU backend runs everything)
endif
ifeq ($(SIM),1)
$(error SIM=1: this version has no CUDA simulator; build without it)
endif

VARIANT := $(if $(filter 1,$(ASAN)),asan,cpu)
BUILD   ?= build/$(VARIANT)

# OpenBLAS by its own directory: another BLAS that the system prefers must not take its place.
TRIPLE  := $(shell $(CC) -print-multiarch)
BLAS    := /usr/lib/$(TRIPLE)/openblas-openmp

WARN    := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror
CFLAGS  := -std=c17 -D_GNU_SOURCE -g -march=$(MARCH) -fopenmp -fPIE -I. -isystem /usr/include/$(TRIPLE)/openblas-openmp $(WARN)
LDFLAGS := -fopenmp -pie -Wl,-z,relro,-z,now
LDLIBS  := -L$(BLAS) -Wl,-rpath,$(BLAS) -lopenblas -lcjson -lxxhash -lpcre2-8 -lm -lpthread
ifeq ($(ASAN),1)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS   += -O1 -fno-omit-frame-pointer $(SANITIZE)
LDFLAGS  += $(SANITIZE)
else
CFLAGS   += -O3 -D_FORTIFY_SOURCE=2 -fstack-protector-strong
endif

SOURCES := $(wildcard runtime/*.c kernels/*.c kernels/cpu/*.c model/*.c optim/*.c data/*.c commands/*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
SUPPORT := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support*.c tests/reference/*.c))
TESTS   := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))

.PHONY: all demo test unit-tests clean help libraries FORCE
.SECONDARY:

all: train_gpt

help:
	@echo 'make              build ./train_gpt (ASAN=1: build/asan/train_gpt with sanitizers)'
	@echo 'make demo         set up, build, prepare text, train about two minutes, evaluate, sample [DATA=file or folder]'
	@echo 'make test         set up, build, run every test'
	@echo 'make unit-tests   build the test programs under $(BUILD)/tests'
	@echo 'make clean        remove build/ and ./train_gpt'

# ./train_gpt is always the default build, under its own name so that a running one can be replaced.
train_gpt: $(BUILD)/train_gpt
ifeq ($(VARIANT),cpu)
	@ln -f $< $@ 2>/dev/null || cp -f $< $@
endif

demo test:
	@scripts/$@.sh

clean:
	rm -rf build train_gpt

unit-tests: $(TESTS) $(BUILD)/train_gpt

# ---- rules ----

$(BUILD)/train_gpt: $(BUILD)/train_gpt.o $(BUILD)/libthalweg.a
	@echo '  ld $@'
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libthalweg.a: $(OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(SUPPORT) $(BUILD)/libthalweg.a
	@echo '  ld $@'
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

$(BUILD)/%.o: %.c | libraries
	@mkdir -p $(@D)
	@echo '  cc $<'
	@$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# exp and tanh vectorise only with this; nowhere else, and never at link.
$(BUILD)/kernels/cpu/vector_math.o: CFLAGS += -ffast-math

# The commit is baked into one object, rebuilt when it changes.
COMMIT := $(shell git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
$(BUILD)/runtime/version.o: CFLAGS += -DTHALWEG_COMMIT='"$(COMMIT)"' -DTHALWEG_VARIANT='"$(VARIANT) $(MARCH)"'
$(BUILD)/runtime/version.o: $(BUILD)/commit
$(BUILD)/commit: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' > $@

# Once a make: what is built, and a loud stop where a library is missing.
libraries:
	@scripts/install_deps.sh --check
	@echo 'thalweg $(COMMIT): cpu backend, OpenBLAS (openmp), -march=$(MARCH) | asan: $(ASAN) | cuda: no backend in this version -> $(BUILD)'

-include $(OBJECTS:.o=.d) $(SUPPORT:.o=.d) $(TESTS:=.d) $(BUILD)/train_gpt.d
