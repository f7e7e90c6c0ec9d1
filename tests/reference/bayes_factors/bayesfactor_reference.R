# Makes bayesfactor_reference.json: JZS Bayes factors of t tests (Rouder et al., 2009).
# Debian 12: apt-get install r-cran-bayesfactor r-cran-jsonlite; Rscript bayesfactor_reference.R
suppressMessages(library(BayesFactor))
rows <- list()
for (t in c(0, 0.3, 1, 2, 2.5, 4, 8, -3)) {
  for (n in c(3, 5, 10, 20, 60, 200)) {
    for (scale in c(sqrt(2) / 2, 1)) {
      one <- ttest.tstat(t, n1 = n, rscale = scale, simple = TRUE)
      two <- ttest.tstat(t, n1 = n, n2 = n + 4, rscale = scale, simple = TRUE)
      rows[[length(rows) + 1]] <- list(t = t, n = n, scale = scale, one_sample = unname(one),
                                       two_sample = unname(two))
    }
  }
}
# A paired test on data, through ttestBF itself.
differences <- c(0.125, 0.25, 0, -0.125, 0.375, 0.25, 0.125, 0, 0.5, 0.125)
paired <- extractBF(ttestBF(differences, rscale = "medium"), onlybf = TRUE)
versions <- list(R = as.character(getRversion()),
                 BayesFactor = as.character(packageVersion("BayesFactor")))
writeLines(jsonlite::toJSON(list(versions = versions, differences = differences, paired = paired,
                                 tests = rows), auto_unbox = TRUE, digits = 12, pretty = FALSE),
           "bayesfactor_reference.json")
