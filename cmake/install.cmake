# Installs program, libraries, headers, pkg-config and CMake files, man pages and completion.
include(CMakePackageConfigHelpers)

install(TARGETS retort ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS retort-shared EXPORT retort-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/retort.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/retort DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

set(RETORT_PC_REQUIRES "jansson yaml-0.1 libpng libjpeg libzip zlib libmd")
set(RETORT_PC_LIBS)
if(DNNL_LIB AND DNNL_INCLUDE)
  set(RETORT_PC_LIBS "-ldnnl -lstdc++")
endif()
string(APPEND RETORT_PC_LIBS " -fopenmp -ldl -lm")
file(RELATIVE_PATH RETORT_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
foreach(name retort retort-static)
  configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
configure_file(cmake/retort-config.cmake.in retort-config.cmake @ONLY)
write_basic_package_version_file(retort-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/retort-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/retort-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/retort)
install(EXPORT retort-targets NAMESPACE retort:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/retort)

if(TARGET retort-cli)
  install(TARGETS retort-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  # Pages are printed by the program from its own option tables.
  set(pages ${CMAKE_CURRENT_BINARY_DIR}/share)
  add_custom_command(OUTPUT ${pages}/stamp COMMAND retort-cli generate share ${pages} COMMAND ${CMAKE_COMMAND} -E touch ${pages}/stamp
                     DEPENDS retort-cli COMMENT "man pages")
  add_custom_target(pages ALL DEPENDS ${pages}/stamp)
  install(DIRECTORY ${pages}/man DESTINATION ${CMAKE_INSTALL_DATADIR})
  # Completion asks the program. Distributions have the second folders of zsh and fish for what comes with packages.
  option(RETORT_VENDOR_COMPLETIONS "completion goes where distributions have it" OFF)
  set(zsh zsh/site-functions)
  if(RETORT_VENDOR_COMPLETIONS)
    set(zsh zsh/vendor-completions)
  endif()
  install(FILES cli/completion/retort.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME retort)
  install(FILES cli/completion/_retort DESTINATION ${CMAKE_INSTALL_DATADIR}/${zsh})
  install(FILES cli/completion/retort.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
