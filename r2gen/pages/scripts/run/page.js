// The page of one run (r2gen/pages/run.py).
showMasthead();
showScores();
showCurves();
showStudies();
showDetails();
showFooter();
checkNavigation();
