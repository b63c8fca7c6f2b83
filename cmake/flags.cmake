# Compiler flags. Strict C17 without contraction: no compiler may fuse or reorder floating-point operations,
# which docs/numerics.md relies on. No flag here depends on the machine that compiles.
add_library(serin_flags INTERFACE)
target_compile_options(serin_flags INTERFACE
  -std=c17 -ffp-contract=off -fno-strict-aliasing -fvisibility=hidden -fno-math-errno -fno-trapping-math
  -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wvla -Werror)
target_compile_definitions(serin_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64
  SRN_VERSION="${PROJECT_VERSION}")
target_link_libraries(serin_flags INTERFACE m)

set(SERIN_SANITIZE "" CACHE STRING "sanitizers, for example address,undefined or thread")
if(SERIN_SANITIZE)
  target_compile_options(serin_flags INTERFACE -fsanitize=${SERIN_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all
    # Under sanitizers gcc warns of paths and conversions that their own checks create; release has the warnings.
    "$<$<C_COMPILER_ID:GNU>:-Wno-conversion;-Wno-sign-conversion;-Wno-format-truncation;-Wno-maybe-uninitialized;\
-Wno-stringop-overflow;-Wno-array-bounds>")
  target_link_options(serin_flags INTERFACE -fsanitize=${SERIN_SANITIZE})
endif()

# Files in x86/ and arm/ are compiled for that architecture only; src/cpu/simd has what both include, and plain C.
set(SERIN_X86 OFF)
set(SERIN_ARM OFF)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(SERIN_X86 ON)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(SERIN_ARM ON)
endif()

# A file named *_avx2.c, *_avx512.c, *_avx512vnni.c, *_dotprod.c or *_i8mm.c is compiled for that ISA; it is
# reached only through a kernel table that checked the CPU first. NEON is what every arm64 compiler assumes.
function(serin_isa_flags)
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
  foreach(f ${ARGN})
    if(f MATCHES "_avx2\\.c$")
      set_source_files_properties(${f} PROPERTIES COMPILE_OPTIONS "${avx2}")
    elseif(f MATCHES "_avx512vnni\\.c$")
      set_source_files_properties(${f} PROPERTIES COMPILE_OPTIONS "${avx512};-mavx512vnni")
    elseif(f MATCHES "_avx512\\.c$")
      set_source_files_properties(${f} PROPERTIES COMPILE_OPTIONS "${avx512}")
    elseif(f MATCHES "_dotprod\\.c$")
      set_source_files_properties(${f} PROPERTIES COMPILE_OPTIONS "-march=armv8.2-a+dotprod")
    elseif(f MATCHES "_i8mm\\.c$")
      set_source_files_properties(${f} PROPERTIES COMPILE_OPTIONS "-march=armv8.2-a+dotprod+i8mm")
    endif()
  endforeach()
endfunction()
