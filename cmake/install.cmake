# Installs program, library, headers, pkg-config and CMake files, man pages and completion.
include(CMakePackageConfigHelpers)

install(TARGETS retort ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(MPICC)
  install(PROGRAMS ${CMAKE_BINARY_DIR}/libretort_mpi.so DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(DIRECTORY include/retort DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

set(RETORT_PC_LIBS "-llapacke -lopenblas")
if(DNNL_LIB AND DNNL_INCLUDE)
  string(APPEND RETORT_PC_LIBS " -ldnnl")
endif()
file(RELATIVE_PATH RETORT_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/retort.pc.in retort.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/retort.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
write_basic_package_version_file(retort-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/retort-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/retort-config-version.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/retort)

if(TARGET retort-cli)
  install(TARGETS retort-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  # Pages and completion are printed by the program from its own option tables.
  set(pages ${CMAKE_CURRENT_BINARY_DIR}/share)
  add_custom_command(OUTPUT ${pages}/stamp COMMAND retort-cli generate share ${pages} COMMAND ${CMAKE_COMMAND} -E touch ${pages}/stamp
                     DEPENDS retort-cli COMMENT "man pages and completion")
  add_custom_target(pages ALL DEPENDS ${pages}/stamp)
  install(DIRECTORY ${pages}/man ${pages}/bash-completion DESTINATION ${CMAKE_INSTALL_DATADIR})
endif()
