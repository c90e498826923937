# Features by name: make [ASAN=1]. Each feature set has its own build folder; ./train_gpt is the default build.
CC       = gcc
MARCH   ?= native
ASAN    ?= 0

VARIANT  = $(if $(filter 1,$(ASAN)),asan,cpu)
BUILD   ?= build/$(VARIANT)

BLAS_DIR = $(firstword $(wildcard /usr/lib/$(shell uname -m)-linux-gnu/openblas-openmp))
BLAS_INC = /usr/include/$(shell uname -m)-linux-gnu/openblas-openmp

WARN     = -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror
CFLAGS   = -std=c17 -D_GNU_SOURCE -O3 -g -march=$(MARCH) -fopenmp -I. -isystem $(BLAS_INC) $(WARN)
LDLIBS   = -L$(BLAS_DIR) -Wl,-rpath,$(BLAS_DIR) -lopenblas -lcjson -lxxhash -lpcre2-8 -lm -lpthread
LDFLAGS  = -fopenmp
ifeq ($(ASAN),1)
CFLAGS  := $(filter-out -O3,$(CFLAGS)) -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
endif

SOURCES  = $(wildcard runtime/*.c kernels/*.c kernels/cpu/*.c model/*.c optim/*.c data/*.c commands/*.c)
OBJECTS  = $(SOURCES:%.c=$(BUILD)/%.o)
TESTS    = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
SUPPORT  = $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support*.c tests/reference/*.c))

$(BUILD)/train_gpt: $(BUILD)/train_gpt.o $(BUILD)/libthalweg.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libthalweg.a: $(OBJECTS)
	rm -f $@ && ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# exp and tanh vectorise only with these; nowhere else, and never at link.
$(BUILD)/kernels/cpu/vector_math.o: CFLAGS += -ffast-math

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(SUPPORT) $(BUILD)/libthalweg.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

unit-tests: $(TESTS)

-include $(shell find build -name '*.d' 2>/dev/null)
.PHONY: unit-tests
.SECONDARY:
