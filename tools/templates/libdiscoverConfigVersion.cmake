# A version fits when it is not older than what was asked for, and of the same ABI
# (0.MINOR below 1.0, MAJOR after). Asking for 0 alone, or for nothing, takes any.

set(PACKAGE_VERSION "@VERSION@")
string(FIND "${PACKAGE_FIND_VERSION}." "@ABI@." _libdiscover_same_abi)

if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
elseif(_libdiscover_same_abi EQUAL 0 OR PACKAGE_FIND_VERSION VERSION_EQUAL 0)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
else()
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
endif()

if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
unset(_libdiscover_same_abi)
