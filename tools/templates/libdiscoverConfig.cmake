# libdiscover @VERSION@: find_package(libdiscover CONFIG)
#
#   libdiscover::shared       the shared library
#   libdiscover::static       the static library, with the system libraries it needs
#   libdiscover::libdiscover  the shared one

if(TARGET libdiscover::libdiscover)
  return()
endif()

get_filename_component(_libdiscover_prefix "${CMAKE_CURRENT_LIST_DIR}/../../@UP@" ABSOLUTE)

add_library(libdiscover::shared SHARED IMPORTED)
set_target_properties(libdiscover::shared PROPERTIES
  IMPORTED_LOCATION "${_libdiscover_prefix}/@LIBDIR@/libdiscover.so.@VERSION@"
  IMPORTED_SONAME "libdiscover.so.@ABI@"
  INTERFACE_INCLUDE_DIRECTORIES "${_libdiscover_prefix}/include")

add_library(libdiscover::static STATIC IMPORTED)
set_target_properties(libdiscover::static PROPERTIES
  IMPORTED_LOCATION "${_libdiscover_prefix}/@LIBDIR@/libdiscover.a"
  INTERFACE_INCLUDE_DIRECTORIES "${_libdiscover_prefix}/include"
  INTERFACE_LINK_LIBRARIES "@LIBRARIES@")

add_library(libdiscover::libdiscover INTERFACE IMPORTED)
set_target_properties(libdiscover::libdiscover PROPERTIES
  INTERFACE_LINK_LIBRARIES libdiscover::shared)

unset(_libdiscover_prefix)
