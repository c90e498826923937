// Finds the arrays a kernel declares with the __shared__ keyword. The keyword stands for `static
// thread_local`, which says neither size nor address to the scheduler, and a section attribute
// does not help: GCC ignores it inside templates. The symbol table knows them: a static local
// of kernel _Z3addPf is named _ZZ3addPfE<name>.
#include "tests/cudasim/cudasim_internal.h"

#include <cstdio>
#include <cstdlib>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cudasim {
namespace {

struct MainObject {
  uintptr_t load_address;
  char* tls_block;  // of the calling thread
};

// The executable is the first object dl_iterate_phdr visits.
MainObject main_object() {
  MainObject found{};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        *static_cast<MainObject*>(out) = {info->dlpi_addr, static_cast<char*>(info->dlpi_tls_data)};
        return 1;
      },
      &found);
  return found;
}

struct SymbolTable {
  const Elf64_Sym* symbols = nullptr;
  size_t count = 0;
  const char* names = nullptr;
};

SymbolTable load_symbols() {
  SymbolTable table;
  const int file = open("/proc/self/exe", O_RDONLY);
  struct stat info {};
  if (file < 0 || fstat(file, &info) != 0) return table;
  void* image = mmap(nullptr, info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (image == MAP_FAILED) return table;
  const char* base = static_cast<const char*>(image);
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(base + header->e_shoff);
  for (int i = 0; i < header->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    table.symbols = reinterpret_cast<const Elf64_Sym*>(base + sections[i].sh_offset);
    table.count = sections[i].sh_size / sizeof(Elf64_Sym);
    table.names = base + sections[sections[i].sh_link].sh_offset;
  }
  if (!table.count)
    fprintf(stderr, "cudasim: no symbol table (stripped?): __shared__ arrays are not poisoned\n");
  return table;
}

// "_Z3addPf" -> "_ZZ3addPfE"; C names are mangled inside a local name as <length><name>.
std::string local_prefix(const std::string& function) {
  if (function.rfind("_Z", 0) == 0) return "_ZZ" + function.substr(2) + "E";
  return "_ZZ" + std::to_string(function.size()) + function + "E";
}

std::vector<TlsArray> scan(const void* kernel) {
  static const SymbolTable table = load_symbols();
  const uintptr_t address = reinterpret_cast<uintptr_t>(kernel) - main_object().load_address;
  std::vector<TlsArray> arrays;
  std::string prefix;
  for (size_t i = 0; i < table.count; i++) {
    const Elf64_Sym& s = table.symbols[i];
    if (ELF64_ST_TYPE(s.st_info) == STT_FUNC && s.st_value == address)
      prefix = local_prefix(table.names + s.st_name);
  }
  if (prefix.empty()) return arrays;
  for (size_t i = 0; i < table.count; i++) {
    const Elf64_Sym& s = table.symbols[i];
    if (ELF64_ST_TYPE(s.st_info) != STT_TLS) continue;
    if (strncmp(table.names + s.st_name, prefix.c_str(), prefix.size()) == 0)
      arrays.push_back({s.st_value, s.st_size});
  }
  return arrays;
}

}  // namespace

const std::vector<TlsArray>& keyword_arrays_of(const void* kernel) {
  static std::map<const void*, std::vector<TlsArray>> cache;
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  auto found = cache.find(kernel);
  if (found == cache.end()) found = cache.emplace(kernel, scan(kernel)).first;
  return found->second;
}

void* tls_address(const TlsArray& array) {
  static thread_local char* block = main_object().tls_block;
  return block + array.offset;
}

size_t code_offset(const void* code) {
  return reinterpret_cast<uintptr_t>(code) - main_object().load_address - 1;  // inside the call
}

int process_id() { return getpid(); }

}  // namespace cudasim
