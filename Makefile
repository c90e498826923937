# Thalweg. `make` builds ./train_gpt and installs nothing; `make demo` and `make test` set up a Debian machine first.
#
# Features by name: make [ASAN=0|1] [CUDA=0|1] [NCCL=0|1] [SIM=0|1] [RACE=0|1] [FUZZ=0|1]. What is not named is chosen
# by what is there; what is asked for and missing stops the build. Each set of features has its own folder under build/
# (NCCL shares that of CUDA); ./train_gpt is the default one.
CC     := $(if $(filter default,$(origin CC)),$(if $(filter 1,$(FUZZ)),clang,gcc),$(CC))
MARCH  ?= native
CFLAGS ?= -O3 -g

# ---- features ----

switch = $(if $(filter-out 0 1,$($1)),$(error $1=$($1): it is 0 or 1))
known := CC MARCH CFLAGS ASAN CUDA NCCL NCCL_HOME SIM RACE FUZZ ARCHS NVCC BUILD V DATA
$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(if $(filter $(known) MAKEFLAGS,$(name)),,\
    $(error $(name)=...: make knows no such name here, only $(known)))))

# CUDA is chosen where a driver answers and there is a compiler for it; it is built for the GPUs that are there.
NVCC ?= $(or $(shell command -v nvcc),$(wildcard /usr/local/cuda/bin/nvcc))
gpus := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | \
    grep -xE '[0-9]+' | sort -u)

ASAN ?= 0
SIM  ?= 0
RACE ?= 0
FUZZ ?= 0
chosen := $(if $(NVCC),$(if $(gpus),cuda,cpu),cpu)
CUDA ?= $(if $(filter cuda,$(chosen)),$(if $(filter 1,$(SIM) $(FUZZ)),0,1),0)
ARCHS ?= $(or $(patsubst 90,90a,$(gpus)),80 89 90a)
$(call switch,ASAN)$(call switch,CUDA)$(call switch,NCCL)$(call switch,SIM)$(call switch,RACE)$(call switch,FUZZ)
$(if $(filter 11,$(CUDA)$(SIM)),$(error CUDA=1 SIM=1: one stands for the other; choose one))
$(if $(filter 10,$(RACE)$(SIM)),$(error RACE=1: races are looked for in the simulator; add SIM=1))
$(if $(filter 11,$(RACE)$(ASAN)),$(error RACE=1 ASAN=1: choose one))
$(if $(and $(filter 1,$(FUZZ)),$(filter 1,$(CUDA) $(SIM) $(ASAN))),\
    $(error FUZZ=1: stands alone, with sanitizers of its own))
ifeq ($(CUDA)$(shell command -v $(or $(NVCC),nvcc)),1)
$(error CUDA=1: nvcc was not found; install the CUDA toolkit, add its bin/ to PATH, or name it: NVCC=/path/to/nvcc)
endif

# NCCL belongs to CUDA: its header and library in one place, beside the toolkit, where the system keeps them, or where
# NCCL_HOME says. The simulator has a stand-in.
$(if $(filter 100,$(NCCL)$(CUDA)$(SIM)),$(error NCCL=1: it belongs to builds with CUDA; add CUDA=1))
$(if $(filter 01,$(NCCL)$(SIM)),$(error NCCL=0 SIM=1: the simulator has its own; leave NCCL out))
triple     := $(shell $(CC) -print-multiarch 2>/dev/null)
toolkit    := $(patsubst %/bin/,%,$(dir $(realpath $(NVCC))))
nccl_homes := $(or $(NCCL_HOME),$(toolkit) /usr/local /usr)
nccl_in     = $(and $(wildcard $1/include/nccl.h),$(firstword $(wildcard $(addprefix $1/,lib64/libnccl.so.2 \
    lib/libnccl.so.2 lib/$(triple)/libnccl.so.2))))
nccl       := $(if $(filter 10,$(CUDA)$(SIM)),$(firstword $(foreach home,$(nccl_homes),$(call nccl_in,$(home)))))
nccl_home  := $(firstword $(foreach home,$(nccl_homes),$(if $(call nccl_in,$(home)),$(home))))
ifeq ($(CUDA)$(NCCL)$(nccl),11)
$(error NCCL=1: include/nccl.h and lib/libnccl.so.2 were not found in $(nccl_homes); install libnccl-dev, or the \
    Python package nvidia-nccl-cu13, or name the folder that has include/ and lib/: NCCL_HOME=/path)
endif
NCCL ?= $(if $(nccl)$(filter 1,$(SIM)),1,0)

VARIANT := $(if $(filter 1,$(SIM)),sim,$(if $(filter 1,$(CUDA)),cuda,cpu))$(if $(filter 1,$(ASAN)),-asan)$(if \
    $(filter 1,$(RACE)),-race)
VARIANT := $(if $(filter 1,$(FUZZ)),fuzz,$(patsubst cpu-asan,asan,$(VARIANT)))
BUILD   ?= build/$(VARIANT)

# ---- compiler and libraries ----

# OpenBLAS by its own directory: another BLAS that the system prefers must not take its place.
blas    := /usr/lib/$(triple)/openblas-openmp
include := -I. -isystem /usr/include/$(triple)/openblas-openmp
headers := openblas_config.h cjson/cJSON.h xxhash.h pcre2.h utf8proc.h zlib.h zstd.h

warnings := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wformat=2 -Werror
compile   = $(CC) -std=c17 -D_GNU_SOURCE $(CFLAGS) -march=$(MARCH) -fopenmp -fPIE $(warnings) $(guards) $(include)
link      = $(CC) -fopenmp -pie -Wl,-z,relro,-z,now,-z,noexecstack $(guards)
libraries = -L$(blas) -Wl,-rpath,$(blas) -lopenblas -lcjson -lxxhash -lpcre2-8 -lutf8proc -lz -lzstd -lm -lpthread
# What makes a defect of memory harder to use; scripts/check_hardening.sh looks for it in the program.
hardening := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection \
    $(if $(filter x86_64%,$(triple)),-fcf-protection)
ifeq ($(ASAN),1)
guards   := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
else
guards   := $(hardening)
endif

# Fuzz targets, by clang: what reads files, without kernels and OpenMP.
ifeq ($(FUZZ),1)
guards   := -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
compile   = $(CC) -std=c17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wno-unknown-pragmas -Werror \
    -fsanitize=fuzzer-no-link $(guards) $(include)
link      = $(CC) -fsanitize=fuzzer $(guards)
endif

# The CUDA backend: its sources by nvcc, or by g++ for the simulator, where kernels run on fibers of the CPU.
ifeq ($(CUDA),1)
include   += -DTHALWEG_CUDA -DTHALWEG_SIMULATED=0
libraries += -L$(toolkit)/lib64 -Wl,-rpath,$(toolkit)/lib64 -lcublasLt -lcudart_static -ldl -lrt -lstdc++
gencode   := $(foreach arch,$(ARCHS),-gencode arch=compute_$(arch),code=sm_$(arch))
nvcc       = $(NVCC) -std=c++17 -O3 -lineinfo $(gencode) -Xptxas -v -DTHALWEG_SIMULATED=0 -I. \
    -Xcompiler -fPIE,-Wall,-Wextra,-Wno-unused-parameter $(hardening:%=-Xcompiler %)
ifeq ($(NCCL),1)
include   += -DTHALWEG_NCCL
libraries += $(nccl) -Wl,-rpath,$(patsubst %/,%,$(dir $(nccl)))
nvcc      += -DTHALWEG_NCCL $(addprefix -isystem ,$(addsuffix /include,$(filter-out /usr/local /usr,$(nccl_home))))
endif
endif
ifeq ($(SIM),1)
include   += -DTHALWEG_CUDA -DTHALWEG_NCCL -DTHALWEG_SIMULATED=1
libraries += -lstdc++
simulate   = $(CXX) -std=c++17 -O2 -g -march=x86-64-v3 -fopenmp -fPIE -Wall -Wextra -Wno-unknown-pragmas \
    -Wno-unused-parameter -DTHALWEG_SIMULATED=1 -DTHALWEG_NCCL -I. -Itests/cudasim/include -isystem \
    /usr/include/$(triple)/openblas-openmp $(guards) \
    -fsanitize=alignment -fno-sanitize-recover=alignment -fstack-clash-protection
link      += -fsanitize=alignment
endif
ifeq ($(RACE),1)
simulate    += -DCUDASIM_RACE
include     += -DCUDASIM_RACE
instrument  := -fsanitize=thread --param tsan-instrument-func-entry-exit=0 -fno-tree-loop-distribute-patterns -Wno-tsan
endif

# ---- what is built ----

sources  := $(wildcard runtime/*.c comm/*.c kernels/*.c kernels/cpu/*.c model/*.c optim/*.c data/*.c commands/*.c \
    report/*.c sweep/*.c)
kernels  := $(wildcard kernels/cuda/*.cu) $(if $(filter 1,$(NCCL)),comm/nccl.cu)
ifeq ($(FUZZ),1)
sources  := $(wildcard runtime/*.c data/*.c) optim/optim_options.c \
    $(addprefix model/,model_options.c hugging_face.c shape.c gpt_params.c) \
    $(addprefix commands/,config.c config_load.c config_print.c run_options.c) \
    $(addprefix sweep/,search.c search_axes.c search_exclude.c search_read.c search_runs.c)
endif
ifneq ($(CUDA)$(SIM),00)
sources  += kernels/cuda/cuda.c
objects  := $(kernels:%.cu=$(BUILD)/%.o)
endif
ifeq ($(SIM),1)
objects  += $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard tests/cudasim/*.cpp))
endif
objects  := $(sources:%.c=$(BUILD)/%.o) $(objects)
support  := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support*.c tests/reference/*.c))
tests    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
ifeq ($(SIM),1)
tests    += $(patsubst tests/%.cu,$(BUILD)/tests/%,$(wildcard tests/test_*.cu))
endif
programs := $(BUILD)/train_gpt $(tests)
fakes    := $(foreach kind,full old empty,$(BUILD)/tests/nvml_$(kind)/libnvidia-ml.so.1)
targets  := $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all demo test test-long unit-tests fuzz clean help FORCE
.SECONDARY:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
quiet := $(if $(V),,@)
hash  := \#

all: $(BUILD)/train_gpt
unit-tests: $(programs) $(fakes)
fuzz: $(targets)

# Another name for the default build, or for the one with CUDA where that is asked for; replaced as a whole so that a
# running one goes on.
ifneq ($(filter build/cuda build/$(chosen),$(BUILD)),)
all unit-tests: train_gpt
endif
train_gpt: $(BUILD)/train_gpt
	@ln -f $< $@ 2>/dev/null || cp -f --remove-destination $< $@

demo:
	@scripts/demo.sh
test:
	@scripts/test.sh
test-long:
	@scripts/test.sh --long

clean:
	rm -rf build train_gpt

help:
	@echo 'make              build ./train_gpt, for this CPU (MARCH=x86-64-v3: for others; V=1: show commands)'
	@echo 'make ASAN=1       build build/asan/train_gpt, with AddressSanitizer and UBSan'
	@echo 'make demo         set up, build, prepare text, train about two minutes, evaluate, sample [DATA=file or folder]'
	@echo 'make test         set up, build, run every test; the last line counts them'
	@echo 'make test-long    the same, and what takes longer than minutes'
	@echo 'make unit-tests   build the test programs, $(BUILD)/tests/test_*'
	@echo 'make FUZZ=1 fuzz  build the fuzz targets, build/fuzz/fuzz_* (scripts/fuzz.sh runs them)'
	@echo 'make clean        remove build/ and ./train_gpt'

# ---- what is here, told once a make ----

ifneq ($(filter-out clean help demo test test-long,$(or $(MAKECMDGOALS),all)),)
# All macros of compiler, CPU and libraries; nothing when one of them is missing.
probe  = printf '$(hash)include <%s>\n' $1 | $(CC) $(include) -march=$(MARCH) -DPCRE2_CODE_UNIT_WIDTH=8 -dM -E -
found := $(shell macros=$$($(call probe,$(headers)) 2>/dev/null) && printf '%s' "$$macros" | \
    sed -n 's/^.define OPENBLAS_VERSION " OpenBLAS \(.*\) "$$/\1/p' && printf '%s' "$$macros" | cksum)
cmocka := $(if $(filter unit-tests,$(MAKECMDGOALS)),$(shell $(call probe,cmocka.h) 2>/dev/null | head -n 1),not needed)
ifeq ($(and $(found),$(cmocka)),)
$(error $(CC) or the headers of a library are missing; as root run scripts/install_deps.sh, or this: \
    $(shell scripts/install_deps.sh --line))
endif
# "2.28.9", of the header.
nccl_version = $(shell sed -n 's/^.define NCCL_M[AI][JN]OR \([0-9]*\)$$/\1./p; s/^.define NCCL_PATCH //p' \
    $(nccl_home)/include/nccl.h | tr -d '\n')
git    := git --no-optional-locks describe --always --dirty --exclude '*' --abbrev=12
commit := $(or $(if $(wildcard .git),$(shell $(git) 2>/dev/null)),unknown)
$(info thalweg $(commit): cpu backend (OpenBLAS openmp $(firstword $(found)), -march=$(MARCH)) \
    | cuda: $(if $(filter 1,$(SIM)),simulated,$(if $(filter 1,$(CUDA)),on (sm $(ARCHS)),$(if $(NVCC),off \
    (no driver answers; CUDA=1 builds it all the same),off (no nvcc)))) \
    | nccl: $(if $(filter 1,$(SIM)),simulated,$(if $(filter 1,$(NCCL)),on ($(nccl_version)),off \
    ($(if $(filter 1,$(CUDA)),$(if $(nccl),NCCL=0,no nccl.h and libnccl.so.2 in $(nccl_homes)),no CUDA)))) \
    | asan: $(if $(filter 1,$(ASAN)),on,off) -> $(BUILD))
endif

# A file whose content is `text`, touched only when that changes; what depends on it follows.
define stamp
@mkdir -p $(@D)
@printf '%s\n' '$(text)' | cmp -s - $@ || printf '%s\n' '$(text)' > $@
endef
$(BUILD)/flags: text = $(compile) $(link) $(libraries) $(flags_vector_math) $(flags_directions) \
    $(flags_gemm_few) $(found) $(nvcc)$(simulate)$(instrument)
$(BUILD)/commit: text = $(commit)
$(BUILD)/flags $(BUILD)/commit: FORCE
	$(stamp)

# ---- rules ----

# Flags of one file, by its name. exp and tanh vectorise only with -ffast-math: nowhere else, and never at link. Roots
# in loops vectorise where errno is not asked for. ISO C fuses multiply and add only where it is allowed to, and gcc for
# some CPUs not in every loop: here all sums are to be alike. The commit is in one object, so that a new one compiles
# one file.
flags_vector_math := -ffast-math
flags_directions  := -fno-math-errno
flags_gemm_few    := -ffp-contract=fast --param=avoid-fma-max-bits=0
flags_version      = -DTHALWEG_COMMIT='"$(commit)"' -DTHALWEG_VARIANT='"$(VARIANT) $(MARCH)"'

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(quiet),@echo "  cc $<")
	$(quiet)$(compile) $(flags_$(*F)) -MMD -MP -c -o $@ $<

$(BUILD)/runtime/version.o: $(BUILD)/commit

# What ptxas says of registers and spills stays beside the object.
ifeq ($(CUDA),1)
$(BUILD)/%.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(quiet),@echo "  nvcc $<")
	$(quiet)$(nvcc) -MMD -MP -MF $(@:.o=.d) -c -o $@ $< 2>$(@:.o=.ptxas) || { cat $(@:.o=.ptxas); exit 1; }
endif
ifeq ($(SIM),1)
$(BUILD)/%.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(quiet),@echo "  sim $<")
	$(quiet)$(simulate) $(instrument) -MMD -MP -x c++ -c -o $@ $<
$(BUILD)/%.o: %.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(quiet),@echo "  c++ $<")
	$(quiet)$(simulate) -MMD -MP -c -o $@ $<
endif

$(BUILD)/libthalweg.a: $(objects)
	@rm -f $@
	$(quiet)ar qcs $@ $^

$(BUILD)/train_gpt: $(BUILD)/train_gpt.o $(BUILD)/libthalweg.a
	$(if $(quiet),@echo "  ld $@")
	$(quiet)$(link) -o $@ $^ $(libraries)

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(support) $(BUILD)/libthalweg.a
	$(if $(quiet),@echo "  ld $@")
	$(quiet)$(link) -o $@ $^ $(libraries) -lcmocka

$(BUILD)/tests/test_telemetry: | $(fakes)
$(fakes): $(BUILD)/tests/nvml_%/libnvidia-ml.so.1: tests/fake_nvml.c
	@mkdir -p $(@D)
	$(if $(quiet),@echo "  so $@")
	$(quiet)$(CC) -std=c17 -D_GNU_SOURCE -O1 -g $(warnings) -shared -fPIC -DFAKE_NVML_$* -Wl,-soname,$(@F) -o $@ $<

$(BUILD)/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/libthalweg.a
	$(if $(quiet),@echo "  ld $@")
	$(quiet)$(link) -o $@ $^ $(libraries)

-include $(objects:.o=.d) $(support:.o=.d) $(programs:=.d) $(targets:$(BUILD)/%=$(BUILD)/tests/fuzz/%.d)
